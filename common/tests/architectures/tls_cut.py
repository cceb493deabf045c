"""A client whose secured upload is cut in the midst: python3 tls_cut.py PORT NAME

Prints the server's final reply to the STOR.
"""

import ftplib
import sys

ftp = ftplib.FTP_TLS()
ftp.connect("127.0.0.1", int(sys.argv[1]), timeout=30)
ftp.login()
ftp.prot_p()
data = ftp.transfercmd("STOR " + sys.argv[2])
data.sendall(b"half a file" * 10000)
# Closes the socket without TLS's word for it.
data.close()
try:
    print(ftp.voidresp())
except ftplib.Error as reply:
    print(reply)
