"""What Python's ftplib does with a server: python3 ftplib_session.py PORT FILE NAME active|passive [secure]

Uploads FILE as NAME, downloads it again whole and from its middle, lists, renames and deletes it. Ends with an
assertion where something is not as it should be.
"""

import ftplib
import io
import sys

port, path, name, active = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] == "active"
content = open(path, "rb").read()

secure = "secure" in sys.argv[5:]
ftp = ftplib.FTP_TLS() if secure else ftplib.FTP()
ftp.connect("127.0.0.1", port, timeout=30)
ftp.login()
if secure:
    ftp.prot_p()
ftp.set_pasv(not active)
ftp.mkd(name)
ftp.cwd(name)
assert ftp.pwd() == "/" + name
ftp.storbinary("STOR one", io.BytesIO(content))
assert ftp.size("one") == len(content)

whole = io.BytesIO()
ftp.retrbinary("RETR one", whole.write)
assert whole.getvalue() == content, "downloaded whole"
middle = len(content) // 2
rest = io.BytesIO()
ftp.retrbinary("RETR one", rest.write, rest=middle)
assert rest.getvalue() == content[middle:], "resumed"

assert ftp.nlst() == ["one"]
lines = []
ftp.dir(lines.append)
assert len(lines) == 1 and lines[0].endswith(" one"), lines
facts = dict(ftp.mlsd())["one"]
assert facts["type"] == "file" and int(facts["size"]) == len(content), facts

ftp.rename("one", "two")
assert ftp.nlst() == ["two"]
ftp.delete("two")
ftp.cwd("..")
ftp.rmd(name)
assert name not in ftp.nlst()
ftp.quit()
