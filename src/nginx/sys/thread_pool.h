/*
 * A thread pool as nginx has declared it since 1.7.11, in a file that is not among its headers.
 * There is no include guard: nginx.h includes this file under two names.
 */

struct ngx_thread_pool_s {
    ngx_thread_mutex_t mtx;
    struct {
        ngx_thread_task_t *first;
        ngx_thread_task_t **last;
    } queue;
    ngx_int_t waiting;
    ngx_thread_cond_t cond;

    ngx_log_t *log;

    ngx_str_t name;
    ngx_uint_t threads;
    ngx_int_t max_queue;

    u_char *file;
    ngx_uint_t line;
};
