"""Serves a folder to anonymous users with pyftpdlib: CLASS ADDRESS PORT ROOT, or --version."""

import logging
import sys
import warnings

# This file has the library's name, and Python looks for modules beside a script first.
sys.path.pop(0)

import pyftpdlib
from pyftpdlib import servers
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler


def main():
    if sys.argv[1:] == ["--version"]:
        print(f"pyftpdlib {pyftpdlib.__ver__}, Python {sys.version.split()[0]}")
        return
    model, address, port, root = sys.argv[1:]
    # No log of what clients do, as no contestant has one.
    logging.basicConfig(level=logging.ERROR)
    # It warns of anonymous users who may write, which is what is asked for.
    warnings.simplefilter("ignore")
    authorizer = DummyAuthorizer()
    authorizer.add_anonymous(root, perm="elradfmwMT")
    FTPHandler.authorizer = authorizer
    # Idle sessions outlast a cell.
    FTPHandler.timeout = 600
    # The queue of connections that ours have.
    server = getattr(servers, model)((address, int(port)), FTPHandler, backlog=4096)
    # No limits of connections: what is measured is what a session costs.
    server.max_cons = 100_000
    server.max_cons_per_ip = 0
    server.serve_forever()


main()
