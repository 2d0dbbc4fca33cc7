/* What build.rs gives to bindgen: the structures of nginx that src/nginx/sys needs. */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

/*
 * A source tree has the file that declares thread pools; Debian's nginx-dev has headers alone.
 * Our own declaration has a name of its own too: a test compares it with nginx's.
 */
#define ngx_thread_pool_s declared_thread_pool_s
#include "thread_pool.h"
#undef ngx_thread_pool_s

#if __has_include(<ngx_thread_pool.c>)
#include <ngx_thread_pool.c>
#else
#include "thread_pool.h"
#endif

/* Macros that bindgen does not evaluate. */
#ifndef NGX_EXCLUSIVE_EVENT
#define NGX_EXCLUSIVE_EVENT 0
#endif

enum ngx_http_wsgi_event_e {
    NGX_HTTP_WSGI_READ_EVENT = NGX_READ_EVENT,
    NGX_HTTP_WSGI_EXCLUSIVE_EVENT = NGX_EXCLUSIVE_EVENT
};
