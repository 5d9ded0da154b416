//! CEL (the Common Expression Language, cel.dev) for conditions and checks: compiled once, evaluated with a bound.
//!
//! Expressions are written by members and run inside a process that serves everybody. The crate `cel` (cel-rust, the one that
//! is kept up) gives the grammar and the standard macros, but its evaluator has no cost limit and wants every variable
//! converted first, which for all outputs of a long run is the dearest part. So its parser alone is used, the hand-written
//! one: the generated one needs megabytes of stack for a few brackets. What comes of it is checked against the list of what
//! may be used (`check`) and evaluated here, over the JSON as it lies there (`eval`).
//!
//! What always holds: every step, every byte that is made or gone through is paid for out of one purse, so an evaluation ends
//! within milliseconds and makes no more than a purse can pay; the same values give the same answer; nothing panics.

use std::sync::{Arc, OnceLock};

use cel::{IdedExpr, parser::PrattParser};
use serde::{Deserialize, Serialize};

use self::eval::Evaluation;
pub use self::value::{Scope, Variable};

mod check;
mod eval;
mod functions;
mod numbers;
mod value;

/// The longest expression, in bytes.
pub const MAX_EXPRESSION_BYTES: usize = 2_000;
/// How deep brackets, calls and conditions may nest.
const MAX_NESTING: u16 = 24;

/// An expression that is none, or cannot be evaluated with these values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CelError {
    /// It is not in the language, or uses more of it than it may.
    #[error("{0}")]
    Unusable(String),
    /// A value is not there or not of the kind that is needed.
    #[error("{0}")]
    Value(String),
    /// It would take too long.
    #[error("the expression does too much")]
    Cost,
}

/// An expression: its text, which may be wrong, and what it is compiled to. Two are equal if their texts are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expression {
    text: String,
    #[serde(skip)]
    compiled: Arc<OnceLock<Result<Program, CelError>>>,
}

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    root: IdedExpr,
    /// The regular expressions of its `matches`, by their text.
    patterns: check::Patterns,
    references: Vec<Vec<String>>,
}

impl Expression {
    /// The expression as it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The expression compiled; the error says what is wrong with it.
    pub fn compiled(&self) -> Result<&Program, &CelError> {
        self.compiled.get_or_init(|| Program::compile(&self.text)).as_ref()
    }

    /// Whether it holds; anything but true or false is an error.
    pub fn holds(&self, scope: &Scope<'_>) -> Result<bool, CelError> {
        let program = self.compiled().map_err(Clone::clone)?;
        Evaluation::new(program, scope).holds()
    }
}

impl Program {
    fn compile(text: &str) -> Result<Self, CelError> {
        if text.trim().is_empty() {
            return Err(CelError::Unusable("there is no expression".into()));
        }
        if text.len() > MAX_EXPRESSION_BYTES {
            let message = format!("an expression has at most {MAX_EXPRESSION_BYTES} bytes");
            return Err(CelError::Unusable(message));
        }
        check::nesting(text)?;
        let root = PrattParser::new()
            .max_recursion_depth(MAX_NESTING)
            .error_recovery_limit(1)
            .parse(text)
            .map_err(|errors| CelError::Unusable(said(&errors)))?;
        let (patterns, references) = check::program(&root)?;
        Ok(Self {
            root,
            patterns,
            references,
        })
    }

    /// The variables it reads from its scope, each with the members that are taken of it by name: `stages.one.output` is
    /// `["stages", "one", "output"]`.
    pub fn references(&self) -> &[Vec<String>] {
        &self.references
    }
}

/// The first thing that the parser found wrong.
fn said(errors: &cel::ParseErrors) -> String {
    errors.errors.first().map_or_else(
        || "it is no CEL expression".to_owned(),
        |first| match first.pos {
            (line, column) if line > 0 => format!("line {line}, column {column}: {}", first.msg),
            _ => first.msg.clone(),
        },
    )
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl From<String> for Expression {
    fn from(text: String) -> Self {
        Self {
            text,
            compiled: Arc::default(),
        }
    }
}

impl From<&str> for Expression {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.text
    }
}

#[cfg(test)]
mod tests;
