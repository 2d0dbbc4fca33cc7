/* What build.rs gives to bindgen: the structures of nginx that src/nginx/sys needs. */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
