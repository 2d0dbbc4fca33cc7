# Read by nginx's configure when it writes the makefile: how cargo makes what config names.

case $NGX_OBJS in
    /*) ngx_wsgi_objs=$NGX_OBJS ;;
    *)  ngx_wsgi_objs=`pwd`/$NGX_OBJS ;;
esac

cat << END                                                    >> $NGX_MAKEFILE

$ngx_wsgi_links:	$ngx_wsgi_library

$ngx_wsgi_library:	ngx_wsgi_always
	cd $ngx_addon_dir && \\
	NGINX_SOURCE_DIR=`pwd` NGINX_BUILD_DIR=$ngx_wsgi_objs \\
	PYO3_PYTHON=$ngx_wsgi_python ${CARGO_HOME:+CARGO_HOME=$CARGO_HOME }\\
	${CARGO:-cargo} rustc --release --locked --lib --crate-type staticlib \\
		--features configure --target-dir $ngx_wsgi_objs/wsgi
	cmp -s $ngx_wsgi_objs/wsgi/release/libngx_http_wsgi_module.a \$@ \\
		|| cp $ngx_wsgi_objs/wsgi/release/libngx_http_wsgi_module.a \$@

ngx_wsgi_always:

END
