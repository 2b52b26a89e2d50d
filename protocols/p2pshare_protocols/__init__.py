"""What two processes must agree on: bytes in, events out.

Sans-IO: nothing here reads a clock, a file, a socket or a source of randomness; `now` and random bytes are
arguments. It may use cryptography and msgpack as functions of bytes. It must not know the daemon or the CLI.
"""
