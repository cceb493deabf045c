//! Transfers: what comes of them, also when they break.

use std::fs;
use std::io;
use std::time::Duration;

use common::ports::Passive;
use common::session::{Action, Chan, Event, Session};

use crate::world::*;

#[test]
fn an_upload_replaces_a_file_only_when_it_is_whole() {
    let mut world = World::logged_in().file("a", b"old");
    world.upload.extend([b'n'; 2500]);
    // The connection, two of the three pieces, and no more.
    world.data_actions = 3;
    assert_eq!(world.tell("EPSV\r\nSTOR a\r\n"), Stop::Data);
    assert_eq!(world.codes(), "229 150");
    assert_eq!(world.content("a"), b"old");
    world.data_actions = usize::MAX;
    world.run();
    assert_eq!(world.codes(), "226");
    assert_eq!(world.content("a"), [b'n'; 2500]);
    assert_eq!(world.names(), ["a"]);
}

#[test]
fn uploads_resume_append_and_find_names() {
    let mut world = World::logged_in().file("a", b"0123456789");
    world.upload.extend(b"xyz");
    world.tell("EPSV\r\nREST 9\r\nSTOR a\r\n");
    assert_eq!(world.content("a"), b"012345678xyz");
    world.upload.extend(b"!");
    world.tell("EPSV\r\nAPPE a\r\n");
    assert_eq!(world.content("a"), b"012345678xyz!");
    world.upload.extend(b"new");
    world.tell("EPSV\r\nAPPE b\r\n");
    assert_eq!(world.content("b"), b"new");
    world.tell("EPSV\r\nREST 99\r\nSTOR a\r\nREST 99\r\nRETR a\r\nREST 1\r\nSTOR c\r\n");
    assert_eq!(
        world.codes(),
        "229 350 150 226 229 150 226 229 150 226 229 350 554 350 554 350 554"
    );
    world.upload.extend(b"unique");
    world.tell("STOU\r\n");
    let heard = world.heard();
    let name = heard.strip_prefix("150 FILE: /").unwrap().lines().next().unwrap();
    assert_eq!(world.content(name), b"unique");
    assert_eq!(world.names().len(), 3);
}

#[test]
fn a_file_that_is_replaced_keeps_its_permission_bits() {
    for (before, after) in [(0o600, 0o600), (0o4755, 0o755), (0o640, 0o640)] {
        let mut world = World::logged_in().file("a", b"old");
        world.set_mode("a", before);
        world.data_actions = 2;
        world.send(&[b'n'; 2500], "STOR a");
        let partial = world.names().remove(0);
        assert_eq!(world.mode(&partial) & !after, 0, "what is half there is no more open");
        world.data_actions = usize::MAX;
        world.run();
        assert_eq!((world.mode("a"), world.content("a")), (after, vec![b'n'; 2500]));
        world.send(b"+", "APPE a");
        assert_eq!((world.mode("a"), world.content("a").len()), (after, 2501));
    }
}

#[test]
fn an_upload_to_a_link_replaces_the_link() {
    let mut world = World::logged_in().file("a", b"old");
    std::os::unix::fs::symlink("a", world.folder.path().join("link")).unwrap();
    world.send(b"new", "STOR link");
    assert_eq!((world.content("a"), world.content("link")), (b"old".to_vec(), b"new".to_vec()));
}

#[test]
fn an_upload_into_a_folder_that_vanishes_is_no_success() {
    let mut world = World::logged_in().folder("d");
    world.data_actions = 1;
    world.send(b"new", "STOR d/a");
    std::fs::remove_dir_all(world.folder.path().join("d")).unwrap();
    world.data_actions = usize::MAX;
    world.run();
    assert_eq!(world.codes(), "229 150 451");
    world.tell("EPSV\r\nSTOR d/a\r\n");
    assert_eq!(world.codes(), "229 550");
}

#[test]
fn an_upload_that_is_cut_stays_only_where_it_went_on_with_a_file() {
    for (command, file, left) in [
        ("APPE new", "new", None),
        ("STOR new", "new", None),
        ("APPE a", "a", Some(10 + PIECE_BYTES)),
        ("REST 4\r\nSTOR a", "a", Some(4 + PIECE_BYTES)),
    ] {
        let mut world = World::logged_in().file("a", b"0123456789");
        world.data_actions = 2;
        world.send(&[b'n'; 2500], command);
        world.tell("ABOR\r\n");
        assert!(world.codes().ends_with("150 426 226"), "{command}");
        let length =
            world.names().iter().any(|name| name == file).then(|| world.content(file).len());
        assert_eq!(length, left, "{command}");
        assert!(world.names().len() <= 1, "{command}");
    }
}

#[test]
fn what_is_wrong_with_a_transfer_is_said_before_150() {
    check("RETR a\r\nLIST\r\nSTOR b\r\n", "425 425 425");
    check("EPSV\r\nRETR x\r\nRETR d\r\nLIST x\r\nNLST x\r\n", "229 550 550 550 550");
    check("EPSV\r\nMLSD a\r\nMLSD x\r\n", "229 501 550");
    check("EPSV\r\nSTOR d\r\nSTOR x/y\r\nSTOR /\r\nAPPE d\r\n", "229 550 550 550 550");
}

#[test]
fn abor_cuts_a_transfer() {
    let mut world = World::logged_in().file("a", &[b'a'; 5000]);
    world.data_actions = 3;
    assert_eq!(world.tell("EPSV\r\nRETR a\r\n"), Stop::Data);
    assert_eq!(world.tell(b"\xff\xf4\xff\xf2ABOR\r\nNOOP\r\n"), Stop::Command);
    assert_eq!(world.codes(), "229 150 426 226 200");
    assert!(!world.data_open);
    assert_eq!(world.downloaded.len(), 2 * PIECE_BYTES);
    world.data_actions = usize::MAX;
    world.tell("EPSV\r\nRETR a\r\n");
    assert_eq!(world.codes(), "229 150 226");
}

#[test]
fn abor_cuts_an_upload_which_leaves_nothing() {
    for data_actions in 0..3 {
        let mut world = World::logged_in().file("a", b"old");
        world.upload.extend([b'n'; 5000]);
        world.data_actions = data_actions;
        assert_eq!(world.tell("EPSV\r\nSTOR a\r\n"), Stop::Data);
        world.tell("NOOP\r\nABOR\r\n");
        assert_eq!(world.codes(), "229 150 426 200 226");
        assert_eq!((world.names(), world.content("a")), (vec!["a".to_owned()], b"old".to_vec()));
    }
}

#[test]
fn stat_is_answered_during_a_transfer_and_disturbs_nothing() {
    let content: Vec<u8> = (0..5000_u32).map(|number| number as u8).collect();
    let mut world = World::logged_in().file("a", &content);
    world.data_actions = 3;
    assert_eq!(world.tell("EPSV\r\nRETR a\r\n"), Stop::Data);
    assert_eq!(world.tell("STAT\r\nSTAT\r\nNOOP\r\n"), Stop::Data);
    assert!(world.heard().contains(" 2000 bytes so far."));
    world.data_actions = usize::MAX;
    assert_eq!(world.run(), Stop::Command);
    assert_eq!(world.codes(), "226 200");
    assert_eq!(world.downloaded, content);
}

#[test]
fn quit_waits_for_the_transfer() {
    let mut world = World::logged_in().file("a", &[b'a'; 5000]);
    world.data_actions = 3;
    world.tell("EPSV\r\nRETR a\r\n");
    assert_eq!(world.tell("QUIT\r\n"), Stop::Data);
    assert_eq!(world.tell(""), Stop::Data);
    world.data_actions = usize::MAX;
    assert_eq!(world.run(), Stop::End);
    assert_eq!(world.codes(), "229 150 226 221");
}

#[test]
fn a_client_that_vanishes_leaves_nothing() {
    for data_actions in 0..5 {
        let mut world = World::logged_in().file("a", b"old");
        world.upload.extend([b'n'; 5000]);
        world.data_actions = data_actions;
        assert_eq!(world.tell("EPSV\r\nSTOR a\r\n"), Stop::Data);
        assert_eq!(world.tell(""), Stop::End);
        assert_eq!((world.names(), world.content("a")), (vec!["a".to_owned()], b"old".to_vec()));
        assert!(!world.data_open);
    }
}

#[test]
fn an_upload_that_fails_says_why_and_leaves_nothing() {
    use io::ErrorKind as Kind;
    let reasons = [
        (Kind::StorageFull, "452"),
        (Kind::QuotaExceeded, "452"),
        (Kind::FileTooLarge, "552"),
        (Kind::ConnectionReset, "426"),
        (Kind::Other, "451"),
    ];
    for (kind, code) in reasons {
        let mut world = World::logged_in();
        world.upload.extend([b'n'; 5000]);
        world.data_actions = 2;
        assert_eq!(world.tell("EPSV\r\nSTOR a\r\n"), Stop::Data);
        world.answer(failed(kind));
        assert_eq!(world.codes(), format!("229 150 {code}"), "{kind:?}");
        assert!(world.names().is_empty(), "{kind:?}");
    }
}

#[test]
fn a_failure_of_the_last_step_is_no_success() {
    // Closing the data connection, or the job that closes the file and gives it its name.
    let fails_at = |job: bool, expected: &str| {
        let mut world = World::logged_in();
        world.upload.extend(b"new");
        world.data_actions = 2;
        assert_eq!(world.tell("EPSV\r\nSTOR a\r\n"), Stop::Data);
        world.session.handle(Event::Received(0));
        assert!(matches!(world.session.poll(), Action::Close(Chan::Data)));
        if job {
            world.session.handle(Event::Closed);
            assert!(matches!(world.session.poll(), Action::Pause));
            world.session.handle(Event::TimedOut);
            assert!(matches!(world.session.poll(), Action::Run(_)));
            world.answer(failed(io::ErrorKind::QuotaExceeded));
        } else {
            world.answer(failed(io::ErrorKind::ConnectionReset));
        }
        assert_eq!(world.codes(), expected);
        assert!(world.names().is_empty());
    };
    fails_at(false, "229 150 426");
    fails_at(true, "229 150 452");
}

/// Such a client closes its data connection first, as if all had been sent.
#[test]
fn an_upload_whose_client_is_killed_is_not_taken_for_whole() {
    let mut world = World::logged_in().file("a", b"old");
    world.upload.extend(b"half of the n");
    world.data_actions = 2;
    assert_eq!(world.tell("EPSV\r\nSTOR a\r\n"), Stop::Data);
    world.session.handle(Event::Received(0));
    world.session.handle(Event::Closed);
    assert!(matches!(world.session.poll(), Action::Pause));
    assert_eq!(world.tell(""), Stop::End);
    assert_eq!(world.codes(), "229 150 426");
    assert_eq!(world.names(), ["a"]);
    assert_eq!(world.content("a"), b"old");
}

#[test]
fn a_file_that_shrinks_meanwhile_is_451() {
    let mut world = World::logged_in().file("a", &[b'a'; 5000]);
    world.data_actions = 2;
    world.tell("EPSV\r\nRETR a\r\n");
    fs::write(world.folder.path().join("a"), b"short").unwrap();
    world.data_actions = usize::MAX;
    world.run();
    assert_eq!(world.codes(), "229 150 451");
}

#[test]
fn a_stranger_on_the_data_port_is_turned_away() {
    let mut world = World::logged_in().file("a", b"secret");
    world.knocking.push_front("198.51.100.1:4000".parse().unwrap());
    world.data_actions = 1;
    world.tell("EPSV\r\nRETR a\r\n");
    let phase = world.session.deadline();
    assert!(matches!(world.session.poll(), Action::Accept));
    assert_eq!(world.session.deadline(), phase);
    world.data_actions = usize::MAX;
    world.run();
    assert_eq!(world.codes(), "229 150 226");
    assert_eq!(world.downloaded, b"secret");
}

#[test]
fn a_mapped_address_is_the_ipv4_address() {
    let mut world = World::of("::ffff:192.0.2.7", true).file("a", b"content");
    world.tell(LOGIN);
    world.tell("PASV\r\nRETR a\r\nPORT 192,0,2,7,8,0\r\nRETR a\r\nEPSV 2\r\nEPSV 1\r\n");
    assert_eq!(world.codes(), "220 331 230 227 150 226 200 150 226 522 229");
    assert_eq!(world.downloaded, b"contentcontent");
    assert_eq!(world.connected_to, Some("192.0.2.7:2048".parse().unwrap()));
}

#[test]
fn port_reaches_nobody_but_the_client() {
    check("PORT 192,0,2,7,8,0\r\nLIST\r\n", "200 150 226");
    check("EPRT |1|192.0.2.7|2048|\r\nLIST\r\n", "200 150 226");
    check("PORT 198,51,100,1,8,0\r\nLIST\r\n", "501 425");
    check("PORT 192,0,2,7,0,25\r\nEPRT |1|192.0.2.7|25|\r\n", "501 501");
    check("EPRT |2|::1|2048|\r\nEPRT |3|x|1|\r\nEPRT x\r\nPORT x\r\n", "522 522 501 501");
    check("EPSV ALL\r\nPASV\r\nPORT 192,0,2,7,8,0\r\nEPSV\r\nLIST\r\n", "200 501 501 229 150 226");
    check("EPSV 2\r\nEPSV x\r\n", "522 501");
}

#[test]
fn port_closes_the_passive_port() {
    let mut world = World::logged_in();
    world.data_open = true;
    world.tell("PASV\r\nPORT 192,0,2,7,8,0\r\n");
    assert!(!world.data_open);
    assert_eq!(world.codes(), "227 200");
}

#[test]
fn a_client_that_never_connects_gets_425_and_goes_on() {
    let mut world = World::logged_in().file("a", b"content");
    world.data_actions = 0;
    assert_eq!(world.tell("EPSV\r\nRETR a\r\n"), Stop::Data);
    assert!(world.session.deadline().limit <= Duration::from_secs(30));
    assert_eq!(world.answer(Event::TimedOut), Stop::Command);
    assert_eq!(world.codes(), "229 150 425");
}

#[test]
fn a_transfer_that_stands_still_ends_and_so_does_its_session() {
    let mut world = World::logged_in();
    world.upload.extend([b'n'; 5000]);
    world.data_actions = 2;
    world.tell("EPSV\r\nSTOR a\r\n");
    assert_eq!(world.answer(Event::TimedOut), Stop::End);
    assert_eq!(world.codes(), "229 150 426 421");
    assert!(world.names().is_empty());
}

#[test]
fn a_port_that_cannot_be_opened_is_425() {
    let mut world = World::logged_in();
    world.failure = Some(io::ErrorKind::AddrInUse);
    world.tell("PASV\r\nLIST\r\n");
    assert_eq!(world.codes(), "425 425");
}

#[test]
fn a_large_directory_streams() {
    let mut world = World::logged_in();
    for number in 0..1000 {
        fs::write(world.folder.path().join(number.to_string()), b"").unwrap();
    }
    world.tell("EPSV\r\nNLST\r\nSTAT .\r\nEPSV\r\nMLSD\r\n");
    let lines = world.downloaded.split(|&byte| byte == b'\n').count() - 1;
    assert_eq!(lines, 2000);
    assert_eq!(world.said.split(|&byte| byte == b'\n').count() - 1, 1000 + 8);
    assert_eq!(world.codes(), "229 150 226 213 229 150 226");
}

#[test]
fn a_pattern_selects_names_and_keeps_the_folder_it_was_given_with() {
    let mut world = World::logged_in().file("a1", b"").file("b1", b"").file(".a1", b"");
    world.tell("EPSV\r\nNLST a*\r\nEPSV\r\nNLST ../?1*1\r\nEPSV\r\nNLST /b?\r\n");
    assert_eq!(world.downloaded, b"a1\r\n/b1\r\n");
    world.tell("EPSV\r\nLIST -a nothing*\r\nEPSV\r\nNLST x/*\r\n");
    let codes = "229 150 226 229 150 226 229 150 226 229 150 226 229 550";
    assert_eq!(world.codes(), codes);
}

#[test]
fn the_user_says_which_ports_are_opened_and_what_pasv_tells() {
    let ports = "5000-5009".parse().ok();
    let mut world = World::with(CLIENT, |settings| {
        settings.passive = Passive { ports, address: Some("198.51.100.1".parse().unwrap()) };
    });
    world.tell(LOGIN);
    world.said.clear();
    world.session.handle(Event::Read(Chan::Control, b"PASV\r\n"));
    assert!(matches!(world.session.poll(), Action::Listen(asked) if asked == ports));
    world.tell("EPSV\r\n");
    assert_eq!(
        world.heard(),
        "227 Entering passive mode (198,51,100,1,19,137)\r\n\
         229 Entering extended passive mode (|||5001|)\r\n"
    );
}
