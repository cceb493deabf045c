//! AUTH, PBSZ and PROT (RFC 4217), and what is secured when.

use std::io;

use common::conformance::{Client, Fault, run};
use common::ftp;
use common::session::{Action, Chan, Event, Session};

use crate::world::*;

const SECURE: &str = "AUTH TLS\r\n";
const PRIVATE: &str = "USER ftp\r\nPASS x\r\nPBSZ 0\r\nPROT P\r\nTYPE I\r\n";

/// One that has a secured control connection, a login and private data.
fn private() -> World {
    let mut world = World::with_certificate().file("a", b"0123456789");
    world.tell(SECURE);
    world.tell(PRIVATE);
    assert_eq!(world.codes(), "234 331 230 200 200 200");
    world
}

#[test]
fn without_a_certificate_there_is_no_security() {
    let mut world = World::new();
    world.said.clear();
    world.tell("AUTH TLS\r\nPBSZ 0\r\nPROT P\r\n");
    assert_eq!(world.codes(), "502 503 503");
    world.tell("FEAT\r\n");
    assert!(!world.heard().contains("AUTH"));
}

#[test]
fn security_is_agreed_step_by_step() {
    let mut world = World::with_certificate();
    world.tell("FEAT\r\n");
    assert!(world.heard().contains("\r\n AUTH TLS\r\n PBSZ\r\n PROT\r\n"));
    world.tell("PBSZ 0\r\nPROT P\r\nAUTH KERBEROS\r\nAUTH\r\n");
    assert_eq!(world.codes(), "503 503 504 501");
    world.tell("auth tls-c\r\n");
    world.tell("AUTH TLS\r\nPROT P\r\nPBSZ x\r\nPBSZ 4294967296\r\nPBSZ 16\r\n");
    assert_eq!(world.codes(), "234 503 503 501 501 200");
    world.tell("PROT S\r\nPROT E\r\nPROT X\r\nPROT C\r\nPROT P\r\n");
    assert_eq!(world.codes(), "536 536 504 200 200");
    assert_eq!(world.secured, [Chan::Control]);
}

#[test]
fn what_came_before_the_handshake_counts_for_nothing() {
    let mut world = World::with_certificate();
    world.tell(LOGIN);
    world.tell("PBSZ 0\r\nAUTH TLS\r\nMKD slipped-in\r\nNO");
    world.tell("OP\r\nPWD\r\n");
    assert_eq!(world.codes(), "331 230 503 234 500 530");
    assert!(world.names().is_empty());
}

#[test]
fn a_port_that_was_agreed_in_clear_is_closed_before_the_handshake() {
    let mut world = World::with_certificate();
    world.tell(LOGIN);
    world.data_actions = 1;
    world.tell("EPSV\r\n");
    world.data_actions = 0;
    world.session.handle(Event::Read(Chan::Control, SECURE.as_bytes()));
    let said = world.step().unwrap();
    world.session.handle(said);
    assert!(matches!(world.session.poll(), Action::Close(Chan::Data)));
    world.session.handle(Event::Closed);
    assert!(matches!(world.session.poll(), Action::StartTls(Chan::Control, _)));
    world.session.handle(Event::Secured);
    world.tell("NOOP\r\n");
    assert_eq!(world.codes(), "331 230 229 234 200");
}

#[test]
fn a_handshake_that_fails_ends_the_session_without_a_word() {
    let mut world = World::with_certificate();
    // The reply itself goes through.
    world.session.handle(common::session::Event::Read(Chan::Control, SECURE.as_bytes()));
    let said = world.step().unwrap();
    world.session.handle(said);
    assert_eq!(world.answer(failed(io::ErrorKind::InvalidData)), Stop::End);
    assert_eq!(world.codes(), "234");
}

#[test]
fn data_is_private_from_prot_p_to_prot_c_or_rein() {
    let mut world = private();
    world.tell("EPSV\r\nRETR a\r\nPROT C\r\nEPSV\r\nLIST\r\nPROT P\r\nEPSV\r\nNLST\r\n");
    assert_eq!(world.codes(), "229 150 226 200 229 150 226 200 229 150 226");
    assert_eq!(world.secured, [Chan::Control, Chan::Data, Chan::Data]);
    world.tell("REIN\r\nPROT P\r\nUSER ftp\r\nPASS x\r\nEPSV\r\nLIST\r\n");
    assert_eq!(world.codes(), "220 503 331 230 229 150 226");
    assert_eq!(world.secured, [Chan::Control, Chan::Data, Chan::Data]);
}

#[test]
fn an_active_data_connection_is_secured_as_well() {
    let mut world = private();
    world.upload.extend(*b"uploaded");
    world.tell("PORT 192,0,2,7,200,10\r\nSTOR b\r\n");
    assert_eq!(world.codes(), "200 150 226");
    assert_eq!(world.secured, [Chan::Control, Chan::Data]);
    assert_eq!(world.content("b"), b"uploaded");
}

#[test]
fn data_that_cannot_be_secured_is_not_sent() {
    let mut world = private();
    world.data_actions = 1;
    world.tell("EPSV\r\n");
    world.data_actions = 0;
    world.tell("STOR b\r\n");
    world.data_actions = usize::MAX;
    // The client has connected, and does not shake hands.
    let opened = world.step().unwrap();
    world.session.handle(opened);
    assert!(matches!(world.session.poll(), common::session::Action::StartTls(Chan::Data, _)));
    world.answer(common::session::Event::TimedOut);
    assert_eq!(world.codes(), "229 150 425");
    assert_eq!(world.names(), ["a"]);
}

#[test]
fn a_secured_conversation_ends_in_order_whatever_fails() {
    let commands = "EPSV\r\nSTOR b\r\nEPSV\r\nRETR b\r\nEPSV\r\nLIST\r\nREIN\r\nQUIT\r\n";
    let control = [SECURE, PRIVATE, commands].map(|piece| piece.as_bytes().to_vec()).to_vec();
    let client = Client { control, write_bytes: 1000, ..Client::new(b"", &[b'u'; 2500]) };
    let play = |fault| {
        let world = World::with_certificate();
        let session = Box::new(ftp::Session::new(&world.settings, "127.0.0.1".parse().unwrap()));
        let outcome = run(session, &client, fault);
        assert!(world.names().iter().all(|name| name == "b"), "{fault:?}: {:?}", world.names());
        outcome
    };
    let whole = play(None);
    assert!(whole.control.ends_with(b"221 Goodbye.\r\n"));
    assert_eq!(whole.data[1], [b'u'; 2500]);
    for fault in Fault::ALL {
        for step in 0..whole.steps {
            play(Some((step, fault)));
        }
    }
}
