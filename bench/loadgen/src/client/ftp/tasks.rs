//! What an FTP session does, one task after the other: a table of commands, and the course that it
//! takes through them.

use super::PATTERN_BYTES;
use crate::class::{Class, FtpOperation};
use crate::client::pattern;
use crate::script::{Action, Player, Turn};
use std::sync::Arc;

/// What can be asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// The greeting, USER and PASS.
    Login,
    Type,
    Size,
    Cwd,
    Noop,
    Quit,
    List,
    Nlst,
    Mlsd,
    Retrieve,
    Store,
}

/// The data that a command moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moves {
    Nothing,
    ToUs,
    FromUs,
}

impl Verb {
    /// How it is said, which code is its success, and what it moves.
    pub(super) fn row(self) -> (&'static str, u16, Moves) {
        match self {
            Self::Login => ("USER", 230, Moves::Nothing),
            Self::Type => ("TYPE", 200, Moves::Nothing),
            Self::Size => ("SIZE", 213, Moves::Nothing),
            Self::Cwd => ("CWD", 250, Moves::Nothing),
            Self::Noop => ("NOOP", 200, Moves::Nothing),
            Self::Quit => ("QUIT", 221, Moves::Nothing),
            Self::List => ("LIST", 226, Moves::ToUs),
            Self::Nlst => ("NLST", 226, Moves::ToUs),
            Self::Mlsd => ("MLSD", 226, Moves::ToUs),
            Self::Retrieve => ("RETR", 226, Moves::ToUs),
            Self::Store => ("STOR", 226, Moves::FromUs),
        }
    }

    /// Whether it is about a file as it is, so that TYPE I must have been said before.
    pub(super) fn is_binary(self) -> bool {
        matches!(self, Self::Size | Self::Retrieve | Self::Store)
    }
}

/// One thing to ask for.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) verb: Verb,
    pub(super) argument: String,
    /// The length of what is stored, or that what is retrieved must have.
    pub(super) bytes: Option<u64>,
    /// The number of its name, in a script.
    label: usize,
}

impl Task {
    fn new(verb: Verb, argument: &str) -> Self {
        Self { verb, argument: argument.to_owned(), bytes: None, label: 0 }
    }
}

/// The tasks of a class; sessions share them.
#[derive(Debug)]
pub(super) struct Tasks {
    list: Vec<Task>,
    /// After so many of them, the next is a request, and is done again for each.
    opening: usize,
    /// What is stored, over and over.
    pub(super) pattern: Arc<[u8]>,
}

impl Tasks {
    pub(super) fn of(class: &Class) -> Self {
        if let Some(script) = &class.script {
            let labels = script.labels().1;
            let tasks = script.steps.iter().zip(labels).map(|(step, label)| {
                let bytes = step.payload_bytes.or(step.expected_bytes);
                Task { bytes, label, ..Task::new(verb(step.action), &step.path) }
            });
            return Self::new(tasks.collect());
        }
        let login = Task::new(Verb::Login, "");
        let binary = Task::new(Verb::Type, "I");
        let path = |verb| Task::new(verb, &class.path);
        match class.operation {
            FtpOperation::Login => Self::new(vec![login, Task::new(Verb::Quit, "")]),
            FtpOperation::Retrieve => {
                Self::new(vec![login, binary, path(Verb::Size), path(Verb::Retrieve)])
            }
            FtpOperation::Store => {
                let bytes = Some(class.payload_bytes as u64);
                Self::new(vec![login, binary, Task { bytes, ..path(Verb::Store) }])
            }
        }
    }

    /// A login and nothing more.
    pub(super) fn idle() -> Self {
        Self::new(vec![Task::new(Verb::Login, "")])
    }

    fn new(list: Vec<Task>) -> Self {
        let is_store = |task: &&Task| task.verb == Verb::Store;
        let stored = list.iter().filter(is_store).filter_map(|task| task.bytes).max().unwrap_or(0);
        let pattern = pattern::bytes((stored as usize).min(PATTERN_BYTES)).into();
        let opening = list.iter().take_while(|task| task.verb.row().2 == Moves::Nothing).count();
        Self { list, opening, pattern }
    }
}

/// The verb of a step; a pause has none, and is never asked for.
fn verb(action: Action) -> Verb {
    match action {
        Action::Login => Verb::Login,
        Action::Cwd => Verb::Cwd,
        Action::List => Verb::List,
        Action::Nlst => Verb::Nlst,
        Action::Mlsd => Verb::Mlsd,
        Action::Retrieve => Verb::Retrieve,
        Action::Store => Verb::Store,
        Action::Quit => Verb::Quit,
        Action::Noop | Action::Get | Action::Think => Verb::Noop,
    }
}

/// Where in its tasks a session is.
#[derive(Clone, Debug)]
pub(super) struct Course {
    pub(super) tasks: Arc<Tasks>,
    present: usize,
    player: Option<Player>,
}

/// What comes behind a task.
pub(super) enum Next {
    /// The present task.
    Task,
    Pause(std::time::Duration),
    /// Requests, each of which is the present task.
    Requests,
    End,
}

impl Course {
    pub(super) fn new(tasks: Tasks, player: Option<Player>) -> Self {
        Self { tasks: Arc::new(tasks), present: 0, player }
    }

    pub(super) fn number(&mut self, number: usize) {
        if let Some(player) = &mut self.player {
            player.number(number);
        }
    }

    /// To the first task, which is the login.
    pub(super) fn reset(&mut self) {
        self.present = 0;
        if let Some(player) = &mut self.player {
            player.reset();
            player.next();
        }
    }

    pub(super) fn task(&self) -> &Task {
        &self.tasks.list[self.present]
    }

    /// The number of the present step's name, in a script.
    pub(super) fn label(&self) -> Option<usize> {
        self.player.as_ref().map(|_| self.task().label)
    }

    /// Whether all tasks together, from the connect to the end, are one request.
    pub(super) fn is_one_request(&self) -> bool {
        self.player.is_some() || self.ends_with_quit()
    }

    fn ends_with_quit(&self) -> bool {
        self.tasks.list.last().is_some_and(|task| task.verb == Verb::Quit)
    }

    /// Goes on behind the present task.
    pub(super) fn advance(&mut self) -> Next {
        if let Some(player) = &mut self.player {
            return match player.next() {
                Turn::Do(index) => {
                    self.present = index;
                    Next::Task
                }
                Turn::Pause(pause) => Next::Pause(pause),
                Turn::End => Next::End,
            };
        }
        if self.present + 1 >= self.tasks.list.len() {
            return Next::End;
        }
        self.present += 1;
        if self.present < self.tasks.opening { Next::Task } else { Next::Requests }
    }
}
