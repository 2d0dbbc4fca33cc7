"""Applications in a line, for tests that write their own."""

HELLO = "def application(e, s):\n    s('200 OK', [])\n    return [b'{}']\n"
