"""Bodies beyond 32 bits: the length and the offsets the application sees.

TEST_NGINX_BIG_BODY is the size in bytes; 4294967297 (4 GiB + 1) takes a minute and as much space
in the directory of temporary files.
"""

import os

import pytest
from lib import http, procs

SIZE = int(os.environ.get("TEST_NGINX_BIG_BODY", 64 << 20))
SERVER = """
    client_max_body_size 0;
    client_body_timeout 300s;
    wsgi_read_timeout 300s;
    location / { wsgi_app big_body:application; }
"""
END = b"the end of the body"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_big_body_has_its_length_and_its_end_in_its_place(nginx, chunked):
    site = nginx(server=SERVER)
    assert site.post("/", body=END).status == 200
    before = procs.rss(site.worker())
    with open(f"{site.dir}/sparse", "wb") as file:
        file.truncate(SIZE - len(END))
        file.seek(0, os.SEEK_END)
        file.write(END)
    length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(SIZE)}
    with open(f"{site.dir}/sparse", "rb") as file, site.connect(timeout=600) as client:
        client.send(http.build("POST", "/", headers=length))
        if chunked:
            client.send(b"%x\r\n" % SIZE)
        client.sock.sendfile(file)
        if chunked:
            client.send(b"\r\n0\r\n\r\n")
        response = client.read_response()
    # Length, bytes read, place of the end as tell() and seek() have it, bytes that are not zero.
    place = SIZE - len(END)
    assert response.text == repr((str(SIZE), SIZE, SIZE, place, END, b"", len(END)))
    assert procs.rss(site.worker()) - before < 16 << 20
