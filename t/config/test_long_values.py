"""Values as long as the configuration and the encodings allow, and one longer."""

import json

import pytest

NAMES = {"wsgi_app": "location / {{ wsgi_app {}; }}", "wsgi_mount": "wsgi_mount /{};",
         "wsgi_thread_pool": "wsgi_thread_pool {};", "wsgi_queue": "wsgi_queue {};",
         "wsgi_param": "wsgi_param {} v;", "the value of wsgi_param": "wsgi_param A {};",
         "wsgi_buffer_size": "wsgi_buffer_size {};", "wsgi_read_timeout": "wsgi_read_timeout {};"}
HTTP_NAMES = {"wsgi_env": "wsgi_env {} v;", "the value of wsgi_env": "wsgi_env A {};",
              "wsgi_chdir": "wsgi_chdir /{};", "wsgi_python_home": "wsgi_python_home /{};",
              "wsgi_python_path": "wsgi_python_path /{};",
              "wsgi_shutdown_timeout": "wsgi_shutdown_timeout {};",
              "wsgi_switch_interval": "wsgi_switch_interval {};"}
BOUNDARIES = [255, 256, 65_534, 65_535, 65_536, 65_537, 131_072, 1_000_000]


def said_of(make_nginx, template, size, where):
    return make_nginx(**{where: template.format("9" * size)}).test_config()


@pytest.mark.parametrize("name", [*NAMES, *HTTP_NAMES])
def test_a_value_of_64_kilobytes_is_refused_with_its_place(make_nginx, name):
    where, template = ("server", NAMES[name]) if name in NAMES else ("http", HTTP_NAMES[name])
    status, said = said_of(make_nginx, template, 65_536, where)
    assert status == 1
    assert "[emerg]" in said and "too long parameter" in said and "nginx.conf:" in said


@pytest.mark.parametrize("size", [1500, 3900])
@pytest.mark.parametrize("name", [*NAMES, *HTTP_NAMES])
def test_a_long_value_is_taken_or_refused_with_its_place(make_nginx, name, size):
    where, template = ("server", NAMES[name]) if name in NAMES else ("http", HTTP_NAMES[name])
    status, said = said_of(make_nginx, template, size, where)
    assert status == 0 or "[emerg]" in said, said
    # nginx's own messages end after 2048 bytes, and the place is at their end.
    assert status == 0 or size > 2000 or "nginx.conf:" in said, said


def test_the_longest_values_arrive(make_nginx):
    site = make_nginx(
        apps=["whereabouts"],
        http=f"wsgi_env {'E' * 1900} {'e' * 1900}; wsgi_env A {'a' * 3900};"
             f" wsgi_python_path /{'p' * 3900};",
        server=f"wsgi_param {'P' * 1900} {'p' * 1900}; wsgi_param B {'b' * 3900};",
    ).start()
    found = json.loads(site.get("/whereabouts").body)
    assert found["os.environ"]["E" * 1900] == "e" * 1900
    assert found["os.environ"]["A"] == "a" * 3900
    assert found["environ"]["P" * 1900] == repr("p" * 1900)
    assert found["environ"]["B"] == repr("b" * 3900)
    assert "/" + "p" * 3900 in found["path"]


@pytest.mark.parametrize("target", ["m" * 3900, "m." * 1500 + "m", "m:" + "a" * 3800])
def test_an_application_with_a_long_name_is_an_error_of_its_location_alone(make_nginx, target):
    site = make_nginx(apps=["plain"], server=f"location = /long {{ wsgi_app {target}; }}")
    site.start()
    assert site.get("/long").status == 500
    assert site.get("/plain").body == b"plain"
    site.log.wait_for(r"\[error\].*Error")


@pytest.fixture(scope="module")
def site(shared_nginx):
    """A param of one variable, and one that doubles another sixteen times."""
    doubled = "".join(f'set $d{n + 1} "$d{n}$d{n}";' for n in range(16))
    return shared_nginx(apps=["whereabouts"], server=f"""
        large_client_header_buffers 4 1100k;
        client_header_buffer_size 1k;
        location /long {{ wsgi_app environ:bare; wsgi_param LONG $arg_long; }}
        location /doubled {{ set $d0 x; {doubled} wsgi_app environ:bare; wsgi_param LONG $d16; }}
        location / {{ wsgi_app environ:bare; }}
    """)


@pytest.mark.parametrize("size", BOUNDARIES)
def test_a_value_at_the_limits_of_16_bits_arrives(site, size):
    """As param, as query, as path, as header: none is cut, none spills into its neighbour."""
    value = "v" * size
    found = json.loads(site.get(f"/long?long={value}").body)["values"]
    assert found["LONG"] == value
    assert found["QUERY_STRING"] == f"long={value}"
    found = json.loads(site.get(f"/{value}", headers={"X-A": value, "X-B": "b"}).body)["values"]
    assert (found["PATH_INFO"], found["REQUEST_URI"]) == (f"/{value}", f"/{value}")
    assert (found["HTTP_X_A"], found["HTTP_X_B"]) == (value, "b")


@pytest.mark.parametrize("size", [250, 251, 65_529, 65_530, 65_531, 65_535, 65_536, 131_072])
def test_a_name_over_the_limit_of_16_bits_is_refused(site, size):
    """At most 65535 bytes, the HTTP_ in front included."""
    before = len(site.events("called"))
    response = site.get("/", headers={"N" * size: "v", "X-B": "b"})
    if size <= 65_530:
        found = json.loads(response.body)["values"]
        assert (found["HTTP_" + "N" * size], found["HTTP_X_B"]) == ("v", "b")
    else:
        assert response.status == 400
        assert len(site.events("called")) == before


def test_a_value_that_the_configuration_doubles_arrives(site):
    assert json.loads(site.get("/doubled").body)["values"]["LONG"] == "x" * 65_536
