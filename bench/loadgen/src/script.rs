//! What a session does, one step after the other. Some of it may be left to chance: steps that have
//! a weight are drawn, from a seed, so that two runs are alike.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::class::{HTTP_TARGET, LONGEST, Protocol, breaks_a_line, is_http_target};

const STEPS_MAX: usize = 1000;
const DRAWS_MAX: usize = 100_000;
const WEIGHT_MAX: u32 = 1_000_000;
const PAYLOAD_BYTES_MAX: u64 = 1 << 40;

/// What each session of a class does. The session as a whole is the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// So many steps a session draws from those that have a weight.
    #[serde(default)]
    pub draws: usize,
    /// The pause behind each of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub think: Option<Think>,
    /// Of the draws and the pauses.
    #[serde(default = "seed")]
    pub seed: u64,
    /// What is done, from the first to the last. Those that have a weight stand together, and where
    /// they stand they are drawn.
    #[serde(rename = "step")]
    pub steps: Vec<ScriptStep>,
}

/// One of a script's steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptStep {
    /// What is done.
    #[serde(rename = "do")]
    pub action: Action,
    /// With which file or folder, or which HTTP target. What is stored gets a dot and the
    /// connection's number behind it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The size of what is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<u64>,
    /// The length that what is retrieved must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_bytes: Option<u64>,
    /// How long a pause is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub think: Option<Think>,
    /// How often it is drawn, beside the weights of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// FTP: from the connect to the reply to PASS.
    Login,
    /// FTP: CWD.
    Cwd,
    /// FTP: LIST, of the present folder if there is no path.
    List,
    /// FTP: NLST.
    Nlst,
    /// FTP: MLSD (RFC 3659 §7).
    Mlsd,
    /// FTP: RETR, after TYPE I where that has not been said.
    Retrieve,
    /// FTP: STOR, likewise.
    Store,
    /// FTP: NOOP.
    Noop,
    /// FTP: QUIT.
    Quit,
    /// HTTP: GET.
    Get,
    /// A pause.
    Think,
}

/// A user's pause for thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Think {
    /// Always so long.
    Fixed(#[serde(with = "humantime_serde")] Duration),
    /// So long on average, exponentially distributed.
    Exponential(#[serde(with = "humantime_serde")] Duration),
}

impl Think {
    fn sample(self, random: &mut fastrand::Rng) -> Duration {
        match self {
            Self::Fixed(pause) => pause,
            // 1 - u is never 0, so this is at most 37 times the mean.
            Self::Exponential(mean) => mean.mul_f64(-(1.0 - random.f64()).ln()),
        }
    }

    fn is_too_long(self) -> bool {
        let (Self::Fixed(pause) | Self::Exponential(pause)) = self;
        pause > LONGEST / 100
    }
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Cwd => "cwd",
            Self::List => "list",
            Self::Nlst => "nlst",
            Self::Mlsd => "mlsd",
            Self::Retrieve => "retrieve",
            Self::Store => "store",
            Self::Noop => "noop",
            Self::Quit => "quit",
            Self::Get => "get",
            Self::Think => "think",
        }
    }

    fn is_of(self, protocol: Protocol) -> bool {
        match self {
            Self::Think => true,
            Self::Get => protocol == Protocol::Http,
            _ => protocol == Protocol::Ftp,
        }
    }
}

impl ScriptStep {
    /// What its times are called.
    pub(crate) fn label(&self) -> String {
        let (name, path) = (self.action.name(), &self.path);
        if path.is_empty() { name.to_owned() } else { format!("{name} {path}") }
    }

    fn check(&self, protocol: Protocol) -> Result<(), String> {
        let Self { action, path, .. } = self;
        let name = action.name();
        if !action.is_of(protocol) {
            return Err(format!("{name:?} is no step of this protocol"));
        }
        if breaks_a_line(path) {
            return Err("a path must not contain control characters".to_owned());
        }
        let (may_have_path, must_have_path) = match action {
            Action::List | Action::Nlst | Action::Mlsd => (true, false),
            Action::Cwd | Action::Retrieve | Action::Store | Action::Get => (true, true),
            Action::Login | Action::Noop | Action::Quit | Action::Think => (false, false),
        };
        if must_have_path && path.is_empty() || !may_have_path && !path.is_empty() {
            let needs = if must_have_path { "needs a path" } else { "has no path" };
            return Err(format!("{name:?} {needs}"));
        }
        if *action == Action::Get && !is_http_target(path) {
            return Err(HTTP_TARGET.to_owned());
        }
        let sizes = 1..=PAYLOAD_BYTES_MAX;
        let is_sized = self.payload_bytes.is_some_and(|bytes| sizes.contains(&bytes));
        if is_sized != (*action == Action::Store) || is_sized != self.payload_bytes.is_some() {
            return Err("\"store\", and nothing else, has payload_bytes, 1 to 2^40".to_owned());
        }
        if self.expected_bytes.is_some() && ![Action::Retrieve, Action::Get].contains(action) {
            return Err(format!("no length is expected of {name:?}"));
        }
        if self.think.is_some() != (*action == Action::Think) {
            return Err("\"think\", and nothing else, has a pause: \
                        think = { fixed = \"1s\" } or { exponential = \"1s\" }"
                .to_owned());
        }
        if self.weight.is_some_and(|weight| !(1..=WEIGHT_MAX).contains(&weight)) {
            return Err("a weight is 1 to 1000000".to_owned());
        }
        Ok(())
    }
}

impl Script {
    /// Says what makes this script impossible.
    pub(crate) fn check(&self, protocol: Protocol) -> Result<(), String> {
        let refuse = |why: &str| Err(format!("the script: {why}"));
        if protocol == Protocol::Echo {
            return refuse("only HTTP and FTP have one");
        }
        if !(1..=STEPS_MAX).contains(&self.steps.len()) || self.draws > DRAWS_MAX {
            return refuse("it has 1 to 1000 steps, and at most 100000 draws");
        }
        let pauses = self.steps.iter().filter_map(|step| step.think).chain(self.think);
        if pauses.into_iter().any(Think::is_too_long) {
            return refuse("a pause is at most 7 hours");
        }
        for (number, step) in self.steps.iter().enumerate() {
            let name = |why| format!("the script: step {}: {why}", number + 1);
            step.check(protocol).map_err(name)?;
        }
        let weighted = self.weighted();
        if self.steps[weighted.clone()].iter().any(|step| step.weight.is_none()) {
            return refuse("steps that have a weight stand together");
        }
        if weighted.is_empty() != (self.draws == 0) {
            return refuse("steps that have a weight need draws, and draws need such steps");
        }
        let is = |index: usize, action| {
            self.steps.get(index).is_some_and(|step: &ScriptStep| step.action == action)
        };
        let is_stray = |(index, step): (usize, &ScriptStep)| match step.action {
            Action::Login => index > 0 || step.weight.is_some(),
            Action::Quit => index + 1 < self.steps.len() || step.weight.is_some(),
            _ => false,
        };
        let strays = self.steps.iter().enumerate().any(is_stray);
        if protocol == Protocol::Ftp && (!is(0, Action::Login) || strays) {
            return refuse("of FTP it begins with the only login, and a quit is its end");
        }
        if protocol == Protocol::Http && self.steps.iter().all(|step| step.action != Action::Get) {
            return refuse("there is nothing to get");
        }
        Ok(())
    }

    /// The steps from the first that has a weight to the last.
    fn weighted(&self) -> Range<usize> {
        let has_weight = |step: &ScriptStep| step.weight.is_some();
        let Some(first) = self.steps.iter().position(has_weight) else {
            return 0..0;
        };
        first..self.steps.iter().rposition(has_weight).map_or(first, |last| last + 1)
    }

    /// What times are recorded of, each name once, and for each step which of them it is.
    pub(crate) fn labels(&self) -> (Vec<String>, Vec<usize>) {
        let mut labels: Vec<String> = Vec::new();
        let mut of_steps = Vec::new();
        for step in &self.steps {
            let label = step.label();
            let known = labels.iter().position(|known| *known == label);
            of_steps.push(known.unwrap_or(labels.len()));
            if known.is_none() && step.action != Action::Think {
                labels.push(label);
            }
        }
        (labels, of_steps)
    }
}

/// What a session does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The step of this number.
    Do(usize),
    Pause(Duration),
    /// Nothing any more.
    End,
}

/// One session's way through a script.
#[derive(Clone, Debug)]
pub(crate) struct Player {
    script: Arc<Script>,
    random: fastrand::Rng,
    /// The steps that are drawn, where they stand.
    weighted: Range<usize>,
    position: usize,
    drawn: usize,
    /// A step was drawn, and the pause behind it is due.
    is_pause_due: bool,
}

impl Player {
    pub(crate) fn new(script: &Script) -> Self {
        let random = fastrand::Rng::with_seed(script.seed);
        let weighted = script.weighted();
        let script = Arc::new(script.clone());
        Self { script, random, weighted, position: 0, drawn: 0, is_pause_due: false }
    }

    /// Draws other numbers than the players of other connections.
    pub(crate) fn number(&mut self, number: usize) {
        let mut seeds = fastrand::Rng::with_seed(self.script.seed ^ number as u64);
        self.random = fastrand::Rng::with_seed(seeds.u64(..));
    }

    /// Begins anew. What is drawn goes on.
    pub(crate) fn reset(&mut self) {
        (self.position, self.drawn, self.is_pause_due) = (0, 0, false);
    }

    pub(crate) fn next(&mut self) -> Turn {
        if std::mem::take(&mut self.is_pause_due)
            && let Some(think) = self.script.think
        {
            return Turn::Pause(think.sample(&mut self.random));
        }
        if self.weighted.contains(&self.position) {
            if self.drawn < self.script.draws {
                self.drawn += 1;
                self.is_pause_due = true;
                let index = self.draw();
                return self.turn(index);
            }
            self.position = self.weighted.end;
        }
        let index = self.position;
        self.position += 1;
        self.turn(index)
    }

    fn turn(&mut self, index: usize) -> Turn {
        match self.script.steps.get(index) {
            None => Turn::End,
            Some(ScriptStep { think: Some(think), .. }) => {
                Turn::Pause(think.sample(&mut self.random))
            }
            Some(_) => Turn::Do(index),
        }
    }

    /// One of the steps that have a weight.
    fn draw(&mut self) -> usize {
        let weights = self.script.steps[self.weighted.clone()].iter();
        let weights = weights.map(|step| u64::from(step.weight.unwrap_or(0)));
        let mut left = self.random.u64(..weights.clone().sum::<u64>().max(1));
        for (index, weight) in self.weighted.clone().zip(weights) {
            match left.checked_sub(weight) {
                None => return index,
                Some(rest) => left = rest,
            }
        }
        self.weighted.start
    }
}

fn seed() -> u64 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Script, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    const MIX: &str = r#"
        draws = 10
        think = { exponential = "50ms" }
        step = [
            { do = "login" },
            { do = "retrieve", path = "a", weight = 50 },
            { do = "cwd", path = "/", weight = 20 },
            { do = "list", weight = 15 },
            { do = "noop", weight = 15 },
            { do = "think", think = { fixed = "1s" } },
            { do = "quit" },
        ]
    "#;

    fn sessions(number: usize, count: usize) -> Vec<Vec<Turn>> {
        let mut player = Player::new(&parse(MIX).unwrap());
        player.number(number);
        let session = |_| {
            player.reset();
            let turns = std::iter::from_fn(|| Some(player.next()));
            turns.take_while(|turn| *turn != Turn::End).collect()
        };
        (0..count).map(session).collect()
    }

    #[test]
    fn a_session_does_the_fixed_steps_and_draws_the_others() {
        for session in sessions(3, 100) {
            assert_eq!(session.len(), 1 + 2 * 10 + 1 + 1);
            assert_eq!(session[0], Turn::Do(0));
            assert_eq!(session[21..], [Turn::Pause(Duration::from_secs(1)), Turn::Do(6)]);
            for pair in session[1..21].chunks(2) {
                assert!(matches!(pair, [Turn::Do(1..=4), Turn::Pause(_)]), "{pair:?}");
            }
        }
    }

    #[test]
    fn steps_are_drawn_by_their_weights_and_pauses_by_their_mean() {
        let turns: Vec<Turn> = sessions(0, 1000).concat();
        let count = |step| turns.iter().filter(|turn| **turn == Turn::Do(step)).count();
        for (step, expected) in [(1, 5000_usize), (2, 2000), (3, 1500), (4, 1500)] {
            // Five standard deviations of a binomial are 250 at most; the seed is fixed.
            assert!(count(step).abs_diff(expected) < 250, "{step}: {}", count(step));
        }
        let drawn = |turn: &Turn| match turn {
            Turn::Pause(pause) if *pause != Duration::from_secs(1) => Some(pause.as_secs_f64()),
            _ => None,
        };
        let pauses: Vec<f64> = turns.iter().filter_map(drawn).collect();
        let mean = pauses.iter().sum::<f64>() / pauses.len() as f64;
        assert!((mean - 0.05).abs() < 0.003, "{mean}");
    }

    #[test]
    fn two_runs_draw_the_same_and_two_connections_do_not() {
        assert_eq!(sessions(7, 5), sessions(7, 5));
        assert_ne!(sessions(7, 5), sessions(8, 5));
    }

    #[test]
    fn times_are_recorded_by_what_is_done_and_with_what() {
        let (labels, of_steps) = parse(MIX).unwrap().labels();
        assert_eq!(labels, ["login", "retrieve a", "cwd /", "list", "noop", "quit"]);
        assert_eq!(of_steps, [0, 1, 2, 3, 4, 5, 5]);
    }

    fn check(steps: &str, protocol: Protocol, why: &str) {
        let checked = parse(steps).and_then(|script| script.check(protocol));
        let told = checked.expect_err(steps);
        assert!(told.contains(why), "{steps}: {told}");
    }

    #[test]
    fn a_script_that_cannot_be_is_refused_in_words() {
        parse(MIX).unwrap().check(Protocol::Ftp).unwrap();
        let ftp = |steps: &str, why| check(steps, Protocol::Ftp, why);
        ftp("step = []", "1 to 1000 steps");
        ftp("step = [{ do = \"noop\" }]", "begins with the only login");
        ftp("step = [{ do = \"login\" }, { do = \"cwd\" }]", "step 2: \"cwd\" needs a path");
        ftp("step = [{ do = \"login\", path = \"x\" }]", "has no path");
        ftp("step = [{ do = \"login\" }, { do = \"get\", path = \"/\" }]", "no step of this");
        ftp("step = [{ do = \"login\" }, { do = \"store\", path = \"x\" }]", "payload_bytes");
        ftp("step = [{ do = \"login\" }, { do = \"think\" }]", "has a pause");
        ftp("step = [{ do = \"login\" }, { do = \"noop\", weight = 1 }]", "need draws");
        ftp("draws = 1\nstep = [{ do = \"login\" }]", "draws need such steps");
        ftp("step = [{ do = \"login\" }, { do = \"quit\" }, { do = \"noop\" }]", "quit is its end");
        ftp("step = [{ do = \"sing\" }]", "unknown variant `sing`, expected one of");
        ftp("step = [{ do = \"login\", pth = 1 }]", "unknown field `pth`, expected one of");
        ftp(
            "draws = 1\nstep = [{ do = \"login\" }, { do = \"noop\", weight = 1 }, \
             { do = \"noop\" }, \
             { do = \"noop\", weight = 1 }]",
            "stand together",
        );
        let http = |steps: &str, why| check(steps, Protocol::Http, why);
        http("step = [{ do = \"get\", path = \"x\" }]", "starts with a slash");
        http("step = [{ do = \"think\", think = { fixed = \"1s\" } }]", "nothing to get");
        check("step = []", Protocol::Echo, "only HTTP and FTP");
    }
}
