/*
 * The C side of bits.rs: reads and writes bit-fields by name, as the C compiler lays them out that
 * compiles nginx. "request" and the like are the modules of src/nginx/sys/bits.rs.
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

/* One field; `value` is read, or written and then read back. Returns 1 if the field is known. */
#define FIELD(module, type, field)                                                                 \
    if (strcmp(structure, #module) == 0 && strcmp(name, #field) == 0) {                            \
        if (writes) {                                                                              \
            ((type *) of)->field = *value;                                                         \
        }                                                                                          \
        *value = ((type *) of)->field;                                                             \
        *size = sizeof(type);                                                                      \
        return 1;                                                                                  \
    }

#define REQUEST(field) FIELD(request, ngx_http_request_t, field)
#define HEADERS_IN(field) FIELD(headers_in, ngx_http_headers_in_t, field)
#define BUFFER(field) FIELD(buffer, ngx_buf_t, field)
#define EVENT(field) FIELD(event, ngx_event_t, field)
#define CONNECTION(field) FIELD(connection, ngx_connection_t, field)
#define LISTENING(field) FIELD(listening, ngx_listening_t, field)
#define VARIABLE(field) FIELD(variable, ngx_variable_value_t, field)
#define LOCATION(field) FIELD(location, ngx_http_core_loc_conf_t, field)
#define TLS(field) FIELD(tls, ngx_ssl_connection_t, field)


int
ngx_http_wsgi_test_bits(const char *structure, const char *name, void *of, int writes,
    unsigned *value, size_t *size)
{
    REQUEST(aio)
    REQUEST(allow_ranges)
    REQUEST(buffered)
    REQUEST(chunked)
    REQUEST(discard_body)
    REQUEST(disable_not_modified)
    REQUEST(filter_need_in_memory)
    REQUEST(filter_need_temporary)
    REQUEST(header_only)
    REQUEST(internal)
    REQUEST(keepalive)
    REQUEST(lingering_close)
    REQUEST(limit_rate_set)
    REQUEST(main_filter_need_in_memory)
    REQUEST(post_action)
    REQUEST(reading_body)
    REQUEST(request_body_no_buffering)
    REQUEST(single_range)

    HEADERS_IN(chunked)

    BUFFER(flush)
    BUFFER(in_file)
    BUFFER(last_buf)
    BUFFER(last_in_chain)
    BUFFER(memory)
    BUFFER(sync)

    EVENT(accept)
    EVENT(active)
    EVENT(cancelable)
    EVENT(delayed)
    EVENT(instance)
    EVENT(pending_eof)
    EVENT(posted)
    EVENT(ready)
    EVENT(timedout)
    EVENT(timer_set)

    CONNECTION(buffered)
    CONNECTION(close)
    CONNECTION(error)
    CONNECTION(reusable)
    CONNECTION(timedout)

    LISTENING(open)
    LISTENING(remain)
    LISTENING(reuseport)

    VARIABLE(len)
    VARIABLE(no_cacheable)
    VARIABLE(not_found)
    VARIABLE(valid)

    LOCATION(auto_redirect)
    LOCATION(lmt_excpt)
    LOCATION(noname)

#if (NGX_SSL)
    TLS(no_send_shutdown)
    TLS(no_wait_shutdown)
#endif

    return 0;
}
