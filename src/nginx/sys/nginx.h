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
