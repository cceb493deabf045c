//! Every command and its replies: the good side and the bad side of each, a line each.

use crate::world::*;

/// In a folder with a file `a` of ten bytes, a directory `d` and a file `d/b`.
fn checks(rows: &[(&str, &str)]) {
    for (input, expected) in rows {
        let mut world = World::logged_in().folder("d").file("a", b"0123456789").file("d/b", b"b");
        world.tell(input.replace('|', "\r\n") + "\r\n");
        assert_eq!(world.codes(), *expected, "{input}");
    }
}

fn checks_before_login(rows: &[(&str, &str)]) {
    for (input, expected) in rows {
        let mut world = World::new().file("a", b"a");
        world.codes();
        world.tell(input.replace('|', "\r\n") + "\r\n");
        assert_eq!(world.codes(), *expected, "{input}");
    }
}

#[test]
fn what_is_said_before_login() {
    assert_eq!(World::new().codes(), "220");
    checks_before_login(&[
        ("USER ftp|PASS x", "331 230"),
        // What follows is said after a pause.
        ("USER nobody-of-ours|PASS x", "331"),
        ("PASS x", "503"),
        ("USER", "501"),
        ("FEAT|HELP|NOOP|SYST|OPTS UTF8 ON|QUIT", "211 214 200 215 200 221"),
        ("ABOR|ACCT x|ALLO 1|APPE a|CDUP|CWD /|DELE a", "530 530 530 530 530 530 530"),
        ("EPRT x|EPSV|LIST|MDTM a|MFMT x|MKD x|MLSD", "530 530 530 530 530 530 530"),
        ("MLST|MODE S|NLST|PASV|PORT x|PWD|REIN|REST 0", "530 530 530 530 530 530 530 530"),
        ("RETR a|RMD x|RNFR a|RNTO x|SITE HELP|SIZE a", "530 530 530 530 530 530"),
        ("SMNT x|STAT|STOR x|STOU|STRU F|TYPE I|XPWD", "530 530 530 530 530 530 530"),
        ("NONSENSE", "500"),
    ]);
}

#[test]
fn folders() {
    let long = "x".repeat(300);
    checks(&[
        ("CWD d|PWD|CDUP|PWD", "250 257 250 257"),
        ("XCWD d|XPWD|XCUP|XPWD", "250 257 250 257"),
        ("CWD a", "550"),
        ("CWD missing", "550"),
        ("CWD", "501"),
        ("CDUP|PWD", "250 257"),
        ("CDUP x|PWD x", "501 501"),
        ("MKD e|MKD e|MKD missing/e", "257 550 550"),
        ("XMKD e|XRMD e", "257 250"),
        (&format!("MKD {long}|CWD {long}"), "553 553"),
        ("MKD|RMD|DELE", "501 501 501"),
        ("RMD a|RMD missing|RMD d|RMD /", "550 550 550 550"),
        ("DELE a|DELE a|DELE d|DELE /", "250 550 550 550"),
        ("RNFR a|RNTO c|RNFR c|RNTO d/c", "350 250 350 250"),
        ("RNFR missing|RNFR /|RNTO x|RNFR", "550 550 503 501"),
        ("RNFR a|RNTO missing/x|RNFR a|RNTO /", "350 550 350 550"),
        ("RNFR a|NOOP|RNTO x", "350 200 503"),
        ("RNFR a|RNTO|RNTO x", "350 501 503"),
        (&format!("RNFR a|RNTO {long}"), "350 553"),
    ]);
}

#[test]
fn parameters() {
    checks(&[
        ("TYPE A|TYPE a n|TYPE I|TYPE L 8", "200 200 200 200"),
        ("TYPE E|TYPE L 7|TYPE A T|TYPE X", "504 504 504 504"),
        ("TYPE|TYPE nonsense|TYPE L|TYPE L x", "501 501 501 501"),
        ("MODE S|MODE s|MODE B|MODE C|MODE X|MODE", "200 200 504 504 501 501"),
        ("STRU F|STRU f|STRU R|STRU P|STRU X|STRU", "200 200 504 504 501 501"),
        ("REST 5|REST 0|REST 9223372036854775807", "350 350 350"),
        ("REST|REST x|REST -1|REST 9223372036854775808", "501 501 501 501"),
        ("TYPE A|REST 1|REST 0", "200 501 350"),
        ("ALLO 10|ALLO 10 R 5|ALLO 0", "202 202 202"),
        ("ALLO|ALLO x|ALLO -1|ALLO 10 R|ALLO 10 5", "501 501 501 501 501"),
        ("OPTS UTF8 ON|OPTS utf8|OPTS MLST size;|OPTS MLST", "200 200 200 200"),
        ("OPTS|OPTS nonsense|OPTS UTF8 x", "501 501 501"),
        ("REIN|PWD|USER ftp|PASS x|PWD", "220 530 331 230 257"),
    ]);
}

#[test]
fn ways_to_the_data_connection() {
    checks(&[
        ("PASV|EPSV|EPSV 1|EPSV ALL", "227 229 229 200"),
        ("PASV x|EPSV 2|EPSV 7|EPSV x", "501 522 522 501"),
        ("EPSV ALL|PASV|PORT 192,0,2,7,8,0|EPRT x", "200 501 501 501"),
        ("EPSV ALL|EPRT !3!x!1!|EPRT !1!192.0.2.7!2048!|EPSV", "200 501 501 229"),
        ("PORT 192,0,2,7,8,0|EPRT !1!192.0.2.7!2048!", "200 200"),
        ("PORT 192,0,2,8,8,0|EPRT !1!192.0.2.8!2048!", "501 501"),
        ("PORT 192,0,2,7,0,25|EPRT !1!192.0.2.7!1023!", "501 501"),
        ("PORT|PORT x|PORT 1,2,3,4,5|PORT 1,2,3,4,5,256", "501 501 501 501"),
        ("EPRT|EPRT x|EPRT !1!192.0.2.7!x!", "501 501 501"),
        ("EPRT !2!::1!2048!|EPRT !3!x!2048!", "522 522"),
    ]);
}

#[test]
fn transfers() {
    let long = "x".repeat(300);
    checks(&[
        ("RETR a|LIST|NLST|MLSD|STOR x|APPE x|STOU", "425 425 425 425 425 425 425"),
        ("RETR missing|RETR d|STOR d|APPE d", "550 550 550 550"),
        ("REST 11|RETR a|REST 11|STOR a|REST 1|STOR x", "350 554 350 554 350 554"),
        ("EPSV|REST 5|APPE a|REST 5|STOU|APPE a", "229 350 450 350 450 150 226"),
        (
            "EPSV|RETR a|EPSV|LIST|EPSV|NLST|EPSV|MLSD d",
            "229 150 226 229 150 226 229 150 226 229 150 226",
        ),
        ("EPSV|RETR missing|RETR d|RETR /|RETR", "229 550 550 550 501"),
        ("EPSV|LIST missing|NLST missing|MLSD missing|MLSD a", "229 550 550 550 501"),
        (
            "EPSV|STOR x|EPSV|APPE x|EPSV|APPE y|EPSV|STOU",
            "229 150 226 229 150 226 229 150 226 229 150 226",
        ),
        ("EPSV|STOR d|STOR /|STOR missing/x|APPE d", "229 550 550 550 550"),
        ("EPSV|STOR|APPE", "229 501 501"),
        (&format!("EPSV|STOR {long}|RETR {long}"), "229 553 553"),
        ("EPSV|REST 10|RETR a|EPSV|REST 11|RETR a", "229 350 150 226 229 350 554"),
        ("EPSV|REST 10|STOR a|EPSV|REST 11|STOR a", "229 350 150 226 229 350 554"),
        ("EPSV|REST 5|TYPE A|RETR a|RETR a", "229 350 200 554 150 226"),
        ("EPSV|REST 5|TYPE A|STOR a", "229 350 200 554"),
        ("ABOR|ABOR x", "226 501"),
        ("PASV|ABOR|ABOR|RETR a", "227 225 226 425"),
        ("PORT 192,0,2,7,200,10|ABOR|LIST", "200 225 425"),
    ]);
}

#[test]
fn what_is_known_of_files() {
    checks(&[
        ("SIZE a|MDTM a|MFMT 20010909014640 a", "213 213 213"),
        ("SIZE d|MDTM d|MFMT 20010909014640 d", "550 550 550"),
        ("SIZE missing|MDTM missing|MFMT 20010909014640 missing", "550 550 550"),
        ("SIZE|MDTM|MFMT|MFMT x a|MFMT 20010909014640", "501 501 501 501 501"),
        ("TYPE A|SIZE a", "200 550"),
        ("MLST a|MLST d|MLST|MLST missing", "250 250 250 550"),
        ("STAT|STAT a|STAT d|STAT -la d|STAT missing", "211 213 213 213 550"),
    ]);
}

#[test]
fn the_rest() {
    checks(&[
        ("SYST|NOOP|NOOP x|FEAT|ACCT x|SMNT x", "215 200 501 211 502 502"),
        ("SYST x|FEAT x", "501 501"),
        ("HELP|HELP retr|HELP site|HELP nonsense", "214 214 214 501"),
        ("SITE HELP chmod|SITE HELP nonsense", "214 501"),
        ("SITE HELP|SITE CHMOD 600 a|SITE CHMOD 0700 d", "214 200 200"),
        ("SITE|SITE nonsense|SITE CHMOD|SITE CHMOD 9 a|SITE CHMOD 600", "501 504 501 501 501"),
        ("SITE CHMOD 600 missing", "550"),
        ("|NONSENSE|CWD a\0b|NOOP", "500 500 500 200"),
        ("QUIT|NOOP", "221"),
        ("QUIT x|NOOP", "501 200"),
    ]);
}

/// The whole of those replies that clients take apart.
#[test]
fn replies_have_the_form_that_clients_take_apart() {
    let mut world = World::logged_in().file("a", b"0123456789");
    let mut says = |command: &str, expected: &str| {
        world.tell(format!("{command}\r\n"));
        assert_eq!(world.heard(), expected.replace('|', "\r\n") + "\r\n", "{command}");
    };
    says("SYST", "215 UNIX Type: L8");
    says("PWD", "257 \"/\" is the current directory.");
    says("SIZE a", "213 10");
    says("MFMT 20010909014640 a", "213 Modify=20010909014640; /a");
    says("MDTM a", "213 20010909014640");
    says("OPTS MLST Modify;nonsense;SIZE;", "200 MLST OPTS size;modify;");
    says("MLST a", "250-Facts:| size=10;modify=20010909014640; /a|250 End");
    says("OPTS MLST", "200 MLST OPTS");
    says("MLST a", "250-Facts:|  /a|250 End");
    says("MKD a\"b", "257 \"/a\"\"b\" was made.");
    says("PASV", "227 Entering passive mode (192,0,2,1,19,137)");
    world.tell("EPSV\r\n");
    assert_eq!(world.heard(), "229 Entering extended passive mode (|||5001|)\r\n");
}
