"""Says what a client says that agrees on security: python3 tls_replies.py PORT COMMAND...

Prints the reply to each command, a line each. After a reply of 234 the connection is secured.
"""

import ftplib
import sys

ftp = ftplib.FTP_TLS()
ftp.connect("127.0.0.1", int(sys.argv[1]), timeout=30)
for command in sys.argv[2:]:
    ftp.putcmd(command)
    try:
        reply = ftp.getresp()
    except ftplib.Error as error:
        reply = str(error)
    print(reply)
    if reply.startswith("234"):
        ftp.sock = ftp.context.wrap_socket(ftp.sock, server_hostname=ftp.host)
        ftp.file = ftp.sock.makefile(mode="r", encoding=ftp.encoding)
