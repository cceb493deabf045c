//! A session that is secured from the first byte, as HTTPS is: it begins with the handshake, and is
//! the session within from then on.

use std::time::Duration;

use crate::session::{Action, Chan, Deadline, Event, Session, SharedSettings};

/// How long a client may take for the handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);

/// A session within TLS.
pub(crate) struct Secured {
    settings: SharedSettings,
    step: Step,
    within: Box<dyn Session>,
}

enum Step {
    Handshake,
    Within,
    Over,
}

impl Secured {
    /// The same session, or one within TLS if there is a certificate.
    pub(crate) fn or_plain(settings: &SharedSettings, plain: Box<dyn Session>) -> Box<dyn Session> {
        if settings.tls.is_none() {
            return plain;
        }
        Box::new(Secured { settings: settings.clone(), step: Step::Handshake, within: plain })
    }
}

impl Session for Secured {
    fn poll(&mut self) -> Action<'_> {
        match (&self.step, &self.settings.tls) {
            (Step::Handshake, Some(config)) => Action::StartTls(Chan::Control, config),
            (Step::Within, _) => self.within.poll(),
            _ => Action::End,
        }
    }

    fn handle(&mut self, event: Event<'_>) {
        match (&self.step, event) {
            (Step::Within, event) => self.within.handle(event),
            (Step::Handshake, Event::Secured) => self.step = Step::Within,
            _ => self.step = Step::Over,
        }
    }

    fn deadline(&self) -> Deadline {
        let within = self.within.deadline();
        match self.step {
            Step::Within => within,
            // One that the session within does not have, which begins its own afterwards.
            _ => Deadline { phase: within.phase.wrapping_sub(1), limit: HANDSHAKE_LIMIT },
        }
    }

    fn requests(&self) -> u32 {
        self.within.requests()
    }

    fn has_last_words(&self) -> bool {
        matches!(self.step, Step::Within) && self.within.has_last_words()
    }

    fn more_follows(&self) -> bool {
        matches!(self.step, Step::Within) && self.within.more_follows()
    }

    fn is_receiving(&self) -> bool {
        matches!(self.step, Step::Within) && self.within.is_receiving()
    }

    fn accepts_control(&self) -> bool {
        matches!(self.step, Step::Within) && self.within.accepts_control()
    }
}
