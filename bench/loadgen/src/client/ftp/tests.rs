//! Conversations with a server that says what it is told to.

use std::fmt::Write;

use super::*;
use crate::class::FtpOperation;
use crate::script::Script;

/// Plays the control replies in pieces of `piece` bytes, each when its command is sent.
/// Answers the transcript of commands and steps, or the failure's kind.
fn play(path: &str, replies: &[&str], data: &[u8], piece: usize) -> Result<String, Kind> {
    let operation = if path.is_empty() { FtpOperation::Login } else { FtpOperation::Retrieve };
    let class = Class {
        operation,
        path: path.to_owned(),
        expected_crc32: (!path.is_empty()).then(|| crc32fast::hash(b"data")),
        ..Class::default()
    };
    let mut ftp = Ftp::new(&class);
    let mut transcript = String::new();
    for reply in replies {
        if ftp.is_ready() {
            ftp.request();
        }
        flush(&mut ftp, &mut transcript);
        feed(&mut ftp, Channel::Control, reply.as_bytes(), piece, &mut transcript)?;
        if ftp.state == State::DataConnection {
            ftp.data_opened();
        } else if ftp.state == State::Transfer && !ftp.completed {
            feed(&mut ftp, Channel::Data, data, piece, &mut transcript)?;
            ftp.ended(Channel::Data).map_err(|failure| failure.kind)?;
            feed(&mut ftp, Channel::Control, b"", 1, &mut transcript)?;
        }
    }
    Ok(transcript)
}

fn flush(ftp: &mut Ftp, transcript: &mut String) {
    transcript.push_str(&String::from_utf8_lossy(ftp.output()).replace("\r\n", "; "));
    ftp.wrote(ftp.output().len());
}

fn feed(
    ftp: &mut Ftp,
    channel: Channel,
    input: &[u8],
    piece: usize,
    transcript: &mut String,
) -> Result<(), Kind> {
    let empty = std::iter::once(&[][..]).filter(|_| input.is_empty());
    for mut bytes in input.chunks(piece).chain(empty) {
        loop {
            match ftp.input(channel, &mut bytes).map_err(|failure| failure.kind)? {
                Step::More => break,
                step => write!(transcript, "{step:?}; ").unwrap(),
            }
        }
        assert!(bytes.is_empty());
    }
    Ok(())
}

const LOGIN: [&str; 5] = [
    "220-Welcome\r\n 220 to\r\n220 here\r\n",
    "331 go on\r\n",
    "230 in\r\n",
    "200 ok\n",
    "213 4\r\n",
];

#[test]
fn a_download_takes_the_same_steps_in_any_pieces() {
    let replies = [&LOGIN[..], &["229 Passive (|||4711|)\r\n", "150 here\r\n", "226 done\r\n"]];
    for piece in 1..60 {
        let transcript = play("a.bin", &replies.concat(), b"data", piece).unwrap();
        assert_eq!(
            transcript,
            "Passed(Banner); USER anonymous; PASS loadgen@; Passed(Login); TYPE I; \
             SIZE a.bin; EPSV; Passed(Epsv); Connect(4711); RETR a.bin; \
             Passed(FirstByte); Passed(Transfer); Passed(Complete); Replied; "
        );
    }
}

#[test]
fn the_final_reply_may_come_before_the_end_of_the_data() {
    let mut ftp = Ftp::new(&Class { path: "f".into(), ..Class::default() });
    let mut transcript = String::new();
    for reply in LOGIN {
        feed(&mut ftp, Channel::Control, reply.as_bytes(), 99, &mut transcript).unwrap();
    }
    ftp.request();
    feed(&mut ftp, Channel::Control, b"229 (|||9|)\r\n", 99, &mut transcript).unwrap();
    ftp.data_opened();
    transcript.clear();
    feed(&mut ftp, Channel::Control, b"150 a\r\n226 b\r\n", 99, &mut transcript).unwrap();
    feed(&mut ftp, Channel::Data, b"data", 99, &mut transcript).unwrap();
    ftp.ended(Channel::Data).unwrap();
    feed(&mut ftp, Channel::Control, b"", 99, &mut transcript).unwrap();
    assert_eq!(transcript, "Passed(FirstByte); Passed(Transfer); Replied; ");
}

#[test]
fn a_login_and_quit_are_one_request() {
    let transcript = play("", &["220 a\r\n", "331 b\r\n", "230 c\r\n", "221 d\r\n"], b"", 3);
    let expected = "Passed(Banner); USER anonymous; PASS loadgen@; Passed(Login); QUIT; Replied; ";
    assert_eq!(transcript.unwrap(), expected);
}

#[test]
fn each_fault_has_its_kind() {
    let with = |last: &[&'static str]| [&LOGIN[..], last].concat();
    let faults = [
        (vec!["421 too many\r\n"], &b""[..], Kind::WrongStatus),
        (vec!["hello\r\n"], b"", Kind::BadReply),
        (with(&["229 nothing here\r\n"]), b"", Kind::BadReply),
        (with(&["229 (|||9|)\r\n", "550 no such file\r\n"]), b"", Kind::WrongStatus),
        (with(&["229 (|||9|)\r\n", "150 a\r\n", "426 cut\r\n"]), b"da", Kind::WrongStatus),
        (with(&["229 (|||9|)\r\n", "150 a\r\n", "226 b\r\n"]), b"dat", Kind::WrongLength),
        (with(&["229 (|||9|)\r\n", "150 a\r\n", "226 b\r\n"]), b"dada", Kind::WrongBytes),
    ];
    for (replies, data, kind) in faults {
        assert_eq!(play("f", &replies, data, 5), Err(kind), "{replies:?}");
    }
}

#[test]
fn a_line_that_never_ends_is_refused_at_its_limit() {
    let line = "220 ".to_owned() + &"a".repeat(2 * LINE_BYTES);
    assert_eq!(play("", &[&line], b"", 100), Err(Kind::BadReply));
}

fn store(bytes: usize) -> Ftp {
    let operation = FtpOperation::Store;
    let class = Class { operation, path: "/up".into(), payload_bytes: bytes, ..Class::default() };
    let mut ftp = Ftp::new(&class);
    ftp.number(3);
    ftp
}

/// Logs in, and plays `replies` to what is said about a transfer until it is to be sent.
fn begin(ftp: &mut Ftp, replies: &[&str]) -> String {
    let mut transcript = String::new();
    for reply in &LOGIN[..4] {
        flush(ftp, &mut transcript);
        feed(ftp, Channel::Control, reply.as_bytes(), 99, &mut transcript).unwrap();
    }
    transcript.clear();
    ftp.request();
    for reply in replies {
        flush(ftp, &mut transcript);
        feed(ftp, Channel::Control, reply.as_bytes(), 99, &mut transcript).unwrap();
    }
    ftp.data_opened();
    flush(ftp, &mut transcript);
    transcript
}

#[test]
fn an_upload_is_sent_once_it_is_asked_for_and_whole_when_226_comes_behind_it() {
    let bytes = 2 * PATTERN_BYTES + 5;
    let mut ftp = store(bytes);
    let mut transcript = begin(&mut ftp, &["229 (|||9|)\r\n"]);
    assert!(ftp.data_output().is_none());
    feed(&mut ftp, Channel::Control, b"150 go\r\n", 2, &mut transcript).unwrap();
    let mut sent = Vec::new();
    loop {
        let (constant, range) = ftp.data_output().unwrap();
        let piece = range.len().min(100_000);
        sent.extend_from_slice(&constant[range][..piece]);
        if ftp.data_wrote(piece) {
            break;
        }
    }
    assert!(ftp.data_output().is_none());
    ftp.ended(Channel::Data).unwrap();
    feed(&mut ftp, Channel::Control, b"226 done\r\n", 99, &mut transcript).unwrap();
    assert_eq!(
        transcript,
        "EPSV; Passed(Epsv); Connect(9); STOR /up.3; Passed(Transfer); Passed(Complete); Replied; "
    );
    let (pattern, rest) = sent.split_at(PATTERN_BYTES);
    assert_eq!(sent.len(), bytes);
    assert!(rest.starts_with(pattern) && rest[PATTERN_BYTES..] == pattern[..5]);
}

#[test]
fn an_upload_that_ends_before_its_last_byte_is_no_success() {
    let replies = ["229 (|||9|)\r\n"];
    let mut ftp = store(10);
    let mut transcript = begin(&mut ftp, &replies);
    let early = feed(&mut ftp, Channel::Control, b"150 a\r\n226 b\r\n", 99, &mut transcript);
    assert_eq!(early, Err(Kind::WrongStatus));
    let mut ftp = store(10);
    begin(&mut ftp, &replies);
    assert_eq!(ftp.ended(Channel::Data).unwrap_err().kind, Kind::ClosedEarly);
    let mut ftp = store(10);
    begin(&mut ftp, &replies);
    let sent_back = feed(&mut ftp, Channel::Data, b"x", 1, &mut transcript);
    assert_eq!(sent_back, Err(Kind::WrongBytes));
}

#[test]
fn a_server_without_epsv_is_asked_for_pasv_from_then_on() {
    let mut ftp = store(1);
    let replies = ["502 what?\r\n", "227 Passive (10,0,0,1,25,46).\r\n"];
    let transcript = begin(&mut ftp, &replies);
    assert_eq!(transcript, "EPSV; PASV; Passed(Epsv); Connect(6446); STOR /up.3; ");
    ftp.reset();
    let transcript = begin(&mut ftp, &replies[1..]);
    assert_eq!(transcript, "PASV; Passed(Epsv); Connect(6446); STOR /up.3; ");
}

#[test]
fn a_passive_port_is_read_with_brackets_or_without() {
    assert_eq!(pasv_port("Entering Passive Mode (127,0,0,1,25,46)"), Some(6446));
    assert_eq!(pasv_port("=127,0,0,1,0,21"), Some(21));
    for wrong in ["", "(127,0,0,1,25)", "(127,0,0,1,256,1)", "(1,2,3,4,5,6,7)"] {
        assert_eq!(pasv_port(wrong), None, "{wrong}");
    }
}

#[test]
fn an_idle_session_logs_in_and_says_nothing_more() {
    let mut ftp = Ftp::idle(&Class::default());
    let mut transcript = String::new();
    for reply in ["220 a\r\n", "331 b\r\n", "230 c\r\n"] {
        flush(&mut ftp, &mut transcript);
        feed(&mut ftp, Channel::Control, reply.as_bytes(), 99, &mut transcript).unwrap();
    }
    flush(&mut ftp, &mut transcript);
    assert_eq!(transcript, "Passed(Banner); USER anonymous; PASS loadgen@; Passed(Login); ");
    assert!(ftp.is_over());
}

const SCRIPT: &str = r#"
    step = [
        { do = "login" },
        { do = "cwd", path = "/pub" },
        { do = "mlsd" },
        { do = "retrieve", path = "a", expected_bytes = 4 },
        { do = "think", think = { fixed = "2s" } },
        { do = "store", path = "up", payload_bytes = 3 },
        { do = "quit" },
    ]
"#;

/// Plays a whole session with a script. Data that are retrieved are `data`.
fn play_script(data: &[u8]) -> Result<String, Kind> {
    let script: Script = toml::from_str(SCRIPT).unwrap();
    let mut ftp = Ftp::new(&Class { script: Some(script), ..Class::default() });
    ftp.number(5);
    ftp.reset();
    let mut transcript = String::new();
    let replies = [
        &LOGIN[..3],
        &["250 there\r\n", "229 (|||1|)\r\n", "150 a\r\n226 b\r\n"],
        &["200 binary\r\n", "229 (|||2|)\r\n", "150 a\r\n226 b\r\n"],
        &["229 (|||3|)\r\n", "150 a\r\n", "226 b\r\n", "221 bye\r\n"],
    ];
    for reply in replies.concat() {
        flush(&mut ftp, &mut transcript);
        feed(&mut ftp, Channel::Control, reply.as_bytes(), 7, &mut transcript)?;
        if ftp.state == State::DataConnection {
            ftp.data_opened();
        } else if ftp.state == State::Transfer && ftp.moves() == Moves::ToUs {
            feed(&mut ftp, Channel::Data, data, 7, &mut transcript)?;
            ftp.ended(Channel::Data).map_err(|failure| failure.kind)?;
            feed(&mut ftp, Channel::Control, b"", 1, &mut transcript)?;
        } else if ftp.state == State::Transfer && ftp.data_output().is_some() {
            let count = ftp.data_output().unwrap().1.len();
            assert!(ftp.data_wrote(count));
            ftp.ended(Channel::Data).map_err(|failure| failure.kind)?;
            feed(&mut ftp, Channel::Control, b"", 1, &mut transcript)?;
        }
        if ftp.state == State::Pause {
            ftp.resume();
        }
    }
    assert!(ftp.is_over() && ftp.is_one_request());
    Ok(transcript)
}

#[test]
fn a_script_is_played_step_by_step_and_is_one_request() {
    assert_eq!(
        play_script(b"data").unwrap(),
        "Passed(Banner); USER anonymous; PASS loadgen@; Passed(Login); Did(0); \
         CWD /pub; Did(1); \
         EPSV; Passed(Epsv); Connect(1); MLSD; Passed(FirstByte); Passed(Transfer); Did(2); \
         TYPE I; EPSV; Passed(Epsv); Connect(2); RETR a; Passed(FirstByte); Passed(Transfer); \
         Did(3); Think(2s); \
         EPSV; Passed(Epsv); Connect(3); STOR up.5; Passed(Transfer); Passed(Complete); Did(4); \
         QUIT; Did(5); Replied; "
    );
}

#[test]
fn what_a_script_retrieves_must_have_the_length_that_it_says() {
    assert_eq!(play_script(b"dat"), Err(Kind::WrongLength));
}
