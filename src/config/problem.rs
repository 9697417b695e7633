//! What is wrong with a configuration, and how it is said.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the text, in bytes.
    pub span: Range<usize>,
    /// The key with its tables: `folder[0].settle`, `host.pixhost.api_key`.
    pub key: String,
    /// What was found and what is accepted.
    pub message: String,
    /// What to do: the nearest known key, an example.
    pub help: Option<String>,
}

/// A configuration that cannot be used: every problem at once, shown with file, line and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file; `None` for the built-in defaults or the command line.
    pub file: Option<PathBuf>,
    /// The text that the spans belong to.
    pub text: String,
    /// The problems, in the order of the text. Never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{}: {}", problem.key, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
