from lib import http3

collect_ignore = [] if http3.is_there() else ["test_http3.py"]
