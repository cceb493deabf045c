//! Who may log in, where, and what a wrong password costs.

use std::fs;
use std::time::Duration;

use common::session::{Action, Chan, Event, Session};
use common::users::Users;
use tempfile::TempDir;

use crate::world::*;

/// Of the password `secret`, at the least cost that there is.
const HASH: &str =
    "$argon2id$v=19$m=8,t=1,p=1$YSBmaXhlZCBzYWx0$ZdxW6tkjqaaRT54leQFEQD0hS+erohxgTV1gKYXeQ0U";

/// A world with two users beside anonymous, `reader` and `writer`, in whose home is `mine`; and
/// where the homes are.
fn populated() -> (World, TempDir) {
    let homes = tempfile::tempdir().unwrap();
    let mut lines = vec![String::from("# name:hash:rights:home\n")];
    for (name, rights) in [("reader", "read"), ("writer", "write")] {
        let home = homes.path().join(name);
        fs::create_dir(&home).unwrap();
        lines.push(format!("{name}:{HASH}:{rights}:{}", home.display()));
    }
    fs::write(homes.path().join("writer/mine"), b"mine").unwrap();
    let file = homes.path().join("users");
    fs::write(&file, lines.join("\n")).unwrap();
    let users = Users::open(&file, std::path::Path::new(".")).unwrap();
    let mut world =
        World::with(CLIENT, |settings| settings.users = users).file("public", b"public");
    assert_eq!(world.codes(), "220");
    (world, homes)
}

#[test]
fn a_user_sees_their_home_and_nobody_elses() {
    let (mut world, _homes) = populated();
    world.tell(
        "USER writer\r\nPASS secret\r\nTYPE I\r\nSIZE mine\r\nSIZE public\r\nSIZE ../users\r\n",
    );
    assert_eq!(world.codes(), "331 230 200 213 550 550");
    world.tell("EPSV\r\nNLST\r\n");
    assert_eq!(world.downloaded, b"mine\r\n");
}

#[test]
fn rights_are_a_users_own() {
    let (mut world, homes) = populated();
    world.upload.extend(b"new");
    world.tell("USER writer\r\nPASS secret\r\nEPSV\r\nSTOR new\r\nMKD d\r\nSITE CHMOD 700 d\r\n");
    assert_eq!(world.codes(), "331 230 229 150 226 257 200");
    assert_eq!(fs::read(homes.path().join("writer/new")).unwrap(), b"new");
    // The server of this world is writable, which is said of anonymous.
    world.tell("USER reader\r\nPASS secret\r\nEPSV\r\nSTOR new\r\nMKD d\r\nSITE CHMOD 700 d\r\n");
    assert_eq!(world.codes(), "331 230 229 550 550 550");
    world.tell("USER anonymous\r\nPASS x\r\nMKD d\r\n");
    assert_eq!(world.codes(), "331 230 257");
    assert_eq!(world.names(), ["d", "public"]);
}

#[test]
fn another_login_begins_anew_and_rein_leads_back_to_nobody() {
    let (mut world, _homes) = populated();
    world.tell("TYPE I\r\nUSER writer\r\nPASS secret\r\nMKD d\r\nCWD d\r\nTYPE I\r\nREST 5\r\n");
    assert_eq!(world.codes(), "530 331 230 257 250 200 350");
    world.tell("REIN\r\nPWD\r\nDELE mine\r\nPASS secret\r\n");
    assert_eq!(world.codes(), "220 530 530 503");
    world
        .tell("USER ftp\r\nPASS x\r\nSIZE public\r\nTYPE I\r\nSIZE public\r\nSIZE mine\r\nPWD\r\n");
    assert!(world.heard().ends_with(
        "213 6\r\n550 No such file or directory.\r\n257 \"/\" is the current directory.\r\n"
    ));
    // Whoever only names another user is nobody already.
    world.tell("USER writer\r\nDELE mine\r\nPASS secret\r\nDELE mine\r\n");
    assert_eq!(world.codes(), "331 530 230 250");
}

#[test]
fn a_name_in_other_letters_is_somebody_elses() {
    let (mut world, _homes) = populated();
    assert_eq!(world.tell("USER Anonymous\r\nPASS x\r\n"), Stop::Pause);
    assert_eq!(world.codes(), "331");
}

#[test]
fn a_wrong_password_is_answered_after_a_pause() {
    let (mut world, _homes) = populated();
    assert_eq!(world.tell("USER writer\r\nPASS wrong\r\n"), Stop::Pause);
    assert_eq!(world.codes(), "331");
    assert_eq!(world.session.deadline().limit, Duration::from_secs(1));
    assert_eq!(world.tell("NOOP\r\n"), Stop::Pause);
    assert_eq!(world.answer(Event::TimedOut), Stop::Command);
    assert_eq!(world.codes(), "530 200");
    world.tell("PASS secret\r\nUSER writer\r\nPASS secret\r\nPWD\r\n");
    assert_eq!(world.codes(), "503 331 230 257");
}

#[test]
fn a_pause_begins_when_all_has_been_said() {
    let mut world = World::new();
    world.session.handle(Event::Read(Chan::Control, b"USER root\r\nPASS x\r\n"));
    assert!(matches!(world.session.poll(), Action::Write(Chan::Control, _)));
    let before = world.session.deadline();
    assert!(before.limit > Duration::from_secs(1));
    assert_eq!(world.run(), Stop::Pause);
    assert_ne!(world.session.deadline().phase, before.phase);
}

#[test]
fn what_was_sent_in_one_piece_is_answered_in_its_order() {
    let (mut world, _homes) = populated();
    let input = "USER writer\r\nPASS wrong\r\nUSER nobody\r\nPASS secret\r\n\
        USER writer\r\nPASS secret\r\nPWD\r\n";
    assert_eq!(world.tell(input), Stop::Pause);
    assert_eq!(world.codes(), "331");
    assert_eq!(world.answer(Event::TimedOut), Stop::Pause);
    assert_eq!(world.codes(), "530 331");
    assert_eq!(world.answer(Event::TimedOut), Stop::Command);
    assert_eq!(world.codes(), "530 331 230 257");
}

/// Both with users and without, of whom the last has a hash to spend time on.
#[test]
fn the_third_failure_ends_the_session_whoever_was_named() {
    for mut world in [World::new(), populated().0] {
        world.codes();
        for (name, after) in [("writer", Stop::Command), ("root", Stop::Command), ("a", Stop::End)]
        {
            world.tell("USER anonymous\r\nPASS x\r\n");
            assert_eq!(world.codes(), "331 230", "anonymous stays, and forgives nothing");
            assert_eq!(world.tell(format!("USER {name}\r\nPASS x\r\nNOOP\r\n")), Stop::Pause);
            assert_eq!(world.codes(), "331");
            assert_eq!(world.answer(Event::TimedOut), after);
            let expected = if after == Stop::End { "530" } else { "530 200" };
            assert_eq!(world.codes(), expected);
        }
    }
}

/// What is checked for a user who is not there is somebody's hash, which the password may even fit.
#[test]
fn nobody_logs_in_with_somebodys_password() {
    let (mut world, _homes) = populated();
    world.session.handle(Event::Read(Chan::Control, b"USER nobody\r\nPASS secret\r\n"));
    let job = loop {
        match world.session.poll() {
            Action::Run(job) => break job,
            Action::Write(_, bytes) => {
                let count = bytes.len();
                world.session.handle(Event::Wrote(count));
            }
            other => panic!("a password is checked, not {other:?}"),
        }
    };
    world.session.handle(Event::Ran(job.run().unwrap()));
    assert_eq!(world.run(), Stop::Pause);
    assert_eq!(world.answer(Event::TimedOut), Stop::Command);
    assert_eq!(world.codes(), "530");
}

#[test]
fn a_check_that_fails_lets_nobody_in() {
    let (mut world, _homes) = populated();
    world.tell("USER writer\r\n");
    world.failure = Some(std::io::ErrorKind::OutOfMemory);
    assert_eq!(world.tell("PASS secret\r\n"), Stop::Pause);
    world.answer(Event::TimedOut);
    assert_eq!(world.codes(), "331 530");
}

#[test]
fn a_client_that_vanishes_in_a_pause_is_not_waited_for_unless_it_has_said_quit() {
    let mut world = World::new();
    assert_eq!(world.tell("USER root\r\nPASS x\r\n"), Stop::Pause);
    assert!(world.session.accepts_control());
    assert_eq!(world.tell(""), Stop::End);
    assert_eq!(world.codes(), "220 331");
    let mut world = World::new();
    assert_eq!(world.tell("USER root\r\nPASS x\r\nQUIT\r\n"), Stop::Pause);
    assert_eq!(world.tell(""), Stop::Pause);
    assert_eq!(world.answer(Event::TimedOut), Stop::End);
    assert_eq!(world.codes(), "220 331 530 221");
}

#[test]
fn a_password_is_printed_nowhere() {
    let (mut world, _homes) = populated();
    world.tell("USER writer\r\n");
    world.session.handle(Event::Read(Chan::Control, b"PASS secret\r\n"));
    assert!(!format!("{:?}", world.session).contains("115, 101, 99, 114, 101, 116"));
    assert!(!format!("{:?}", world.session.poll()).contains("secret"));
}
