//! Who the client is: USER, PASS, REIN, and what follows from it.
//!
//! **Invariant:** the reply to a login does not tell whether there is such a user: neither by what
//! is said, nor by how long it takes where all hashes cost the same. A wrong password is answered
//! after a pause that holds up nobody but this client, and a few of them end the session. What may
//! be seen and done is decided by who has logged in, and asked for here only.

use std::sync::Arc;
use std::time::Duration;

use crate::job::{Job, Root};
use crate::password::Password;
use crate::session::Settings;
use crate::users::{Rights, User, is_anonymous};

use super::files::Work;
use super::listing::Facts;
use super::path::VirtualPath;
use super::session::{Representation, Session, State};
use super::transfer::Route;

/// After so many wrong passwords the connection is closed.
const FAILED_LOGINS: u8 = 3;
/// How long the reply to a wrong password is held back: guessing shall take time.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// How far the client has logged in.
#[derive(Debug, Default)]
pub(super) enum Login {
    #[default]
    None,
    /// Somebody was named, known or not.
    Named(Option<Account>),
    Complete(Account),
}

/// Whom a client can log in as.
#[derive(Clone, Debug)]
pub(super) enum Account {
    Anonymous,
    User(Arc<User>),
}

impl Login {
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Login::Complete(_))
    }

    /// What the client sees as the root.
    pub(super) fn root<'a>(&'a self, settings: &'a Settings) -> &'a Root {
        match self {
            Login::Complete(Account::User(user)) => &user.home,
            _ => &settings.root,
        }
    }

    /// Whether the client may store, rename and delete.
    pub(super) fn may_write(&self, settings: &Settings) -> bool {
        match self {
            Login::Complete(Account::User(user)) => user.rights == Rights::Write,
            Login::Complete(Account::Anonymous) => settings.writable,
            Login::None | Login::Named(_) => false,
        }
    }
}

impl Session {
    /// The answer does not tell whether there is such a user.
    pub(super) fn user(&mut self, name: &[u8]) {
        let account = if is_anonymous(name) {
            Some(Account::Anonymous)
        } else {
            self.settings().users.find(name).cloned().map(Account::User)
        };
        self.reinitialize("331 Now the password.", Login::Named(account));
    }

    /// On a server that has users, the password of one who is not there is checked as well,
    /// against a hash that it need not fit.
    pub(super) fn password(&mut self, password: &[u8]) {
        let account = match std::mem::take(&mut self.login) {
            Login::Named(Some(Account::Anonymous)) => return self.let_in(Account::Anonymous),
            Login::Named(account) => account,
            Login::None => return self.say("503 Login with USER first."),
            Login::Complete(account) => {
                self.login = Login::Complete(account);
                return self.say("503 User already authenticated.");
            }
        };
        let hash = match &account {
            Some(Account::User(user)) => Some(&user.hash),
            _ => self.settings().users.decoy(),
        };
        match hash.cloned() {
            Some(hash) => {
                self.work(Job::Verify(hash, Password::new(password)), Work::Login(account));
            }
            None => self.state = State::Pausing,
        }
    }

    /// A password was checked; `right` counts only for somebody who is there.
    pub(super) fn verified(&mut self, account: Option<Account>, right: bool) {
        match account {
            Some(account) if right => self.let_in(account),
            _ => self.state = State::Pausing,
        }
    }

    fn let_in(&mut self, account: Account) {
        self.login = Login::Complete(account);
        self.say("230 Logged in.");
    }

    /// The pause after a wrong password is over.
    pub(super) fn turn_away(&mut self) {
        self.failed_logins += 1;
        self.say("530 Authentication failed.");
        if self.failed_logins == FAILED_LOGINS {
            self.state = State::Over;
        }
    }

    /// Another user begins anew.
    pub(super) fn reinitialize(&mut self, text: &str, login: Login) {
        self.say(text);
        self.login = login;
        self.folder = VirtualPath::default();
        self.restart = 0;
        self.representation = Representation::Ascii;
        self.extended_only = false;
        self.facts = Facts::default();
        self.release(Route::Unknown);
    }
}
