/*
 * The directive load_libpython of the nginx in the wheel.
 *
 * A module that fits any place of a libpython is not linked with one: its symbols are bound when
 * load_module opens it.  The directive, which stands before it, opens the libpython so that they
 * are found.  A process keeps the first one: its symbols cannot be bound anew.
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <dlfcn.h>


static char *ngx_load_libpython(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


static ngx_command_t  ngx_libpython_commands[] = {

    { ngx_string("load_libpython"),
      NGX_MAIN_CONF|NGX_DIRECT_CONF|NGX_CONF_TAKE1,
      ngx_load_libpython,
      0,
      0,
      NULL },

      ngx_null_command
};


static ngx_core_module_t  ngx_libpython_module_ctx = {
    ngx_string("libpython"),
    NULL,
    NULL
};


ngx_module_t  ngx_libpython_module = {
    NGX_MODULE_V1,
    &ngx_libpython_module_ctx,             /* module context */
    ngx_libpython_commands,                /* module directives */
    NGX_CORE_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static char *
ngx_load_libpython(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    void       *handle, *function, *present;
    ngx_str_t  *value;

    value = cf->args->elts;

    if (ngx_conf_full_name(cf->cycle, &value[1], 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    /* NULL unless a libpython is among the global symbols already */
    present = dlsym(RTLD_DEFAULT, "Py_GetVersion");

    /* never closed: Python cannot be unloaded */
    handle = dlopen((char *) value[1].data, RTLD_NOW | RTLD_GLOBAL);
    if (handle == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "cannot load \"%V\": %s",
                           &value[1], dlerror());
        return NGX_CONF_ERROR;
    }

    function = dlsym(handle, "Py_GetVersion");
    if (function == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" is no libpython",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    if (present != NULL && present != function) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "another libpython than \"%V\" is loaded already, "
                           "restart nginx to change it",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
