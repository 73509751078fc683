"""The live page: runs in a browser while they are searching, and a JSON API. It reads, and writes nothing."""

PORT = 8420  # where it listens unless told otherwise
