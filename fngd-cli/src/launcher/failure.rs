//! What goes wrong: one message, one exit code, one thing to do.

use crate::launcher::text;
use serde_json::json;

/// Exit codes, the same for every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Internal = 1,
    Usage = 2,
    Model = 3,
    Data = 4,
    Environment = 5,
    Diverged = 6,
    Memory = 7,
    Target = 8,
    Differs = 9,
    Interrupted = 130,
    Terminated = 143,
}

impl Code {
    /// The code with this number; an unknown number is a bug of whoever sent it.
    pub fn from_number(number: u8) -> Code {
        match number {
            2 => Code::Usage,
            3 => Code::Model,
            4 => Code::Data,
            5 => Code::Environment,
            6 => Code::Diverged,
            7 => Code::Memory,
            8 => Code::Target,
            9 => Code::Differs,
            130 => Code::Interrupted,
            143 => Code::Terminated,
            _ => Code::Internal,
        }
    }

    /// A stable word for `--json`.
    pub fn word(self) -> &'static str {
        match self {
            Code::Internal => "internal",
            Code::Usage => "usage",
            Code::Model => "model",
            Code::Data => "data",
            Code::Environment => "environment",
            Code::Diverged => "diverged",
            Code::Memory => "memory",
            Code::Target => "target",
            Code::Differs => "differs",
            Code::Interrupted => "interrupted",
            Code::Terminated => "terminated",
        }
    }
}

/// A command that did not do what was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub code: Code,
    /// Where, what was expected, what was found.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// What a command returns.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(Code::Environment, message)
    }

    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The help line, where there is something to say.
    pub fn with_maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// `error: ...` and `help: ...`, without terminal control codes from whoever supplied the words.
    pub fn render(&self, color: bool) -> String {
        let (red, cyan, off) = if color { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
        let mut lines = format!("{red}error:{off} {}\n", text::escape_lines(&self.message));
        if let Some(help) = &self.help {
            lines += &format!("{cyan}help:{off} {}\n", text::escape_lines(help));
        }
        lines
    }

    /// The same for `--json`.
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "schema": 1,
            "error": {
                "code": self.code as u8,
                "kind": self.code.word(),
                "message": self.message,
                "help": self.help,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_what_happened_and_what_to_do() {
        let failure = Failure::usage("`--epochs` must be at least 1, found 0").with_help("give a whole number");
        assert_eq!(failure.render(false), "error: `--epochs` must be at least 1, found 0\nhelp: give a whole number\n");
    }

    #[test]
    fn a_hostile_name_cannot_write_to_the_terminal() {
        let failure = Failure::new(Code::Model, "node `\x1b[2J\u{7}`: unknown");
        assert_eq!(failure.render(false), "error: node `\\u{1b}[2J\\u{7}`: unknown\n");
    }

    #[test]
    fn codes_survive_the_way_through_the_engine() {
        for code in
            [Code::Usage, Code::Model, Code::Data, Code::Environment, Code::Diverged, Code::Memory, Code::Target]
        {
            assert_eq!(Code::from_number(code as u8), code);
        }
    }
}
