//! Which part of the language may be used, found out before anything is evaluated.
//!
//! Nothing here recurses deeper than [`MAX_DEPTH`] allows, whatever is written: chains of operators and members, which the
//! parser reads in a loop, are bounded by the size of the expression first and then by their depth.

use std::collections::BTreeMap;

use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr, LiteralValue, operators},
};
use regex::{Regex, RegexBuilder};

use super::{CelError, functions, value::ROOTS};
use crate::engine::pattern::MAX_REGEX_BYTES;

/// How deep the tree of an expression may be.
const MAX_DEPTH: usize = 100;
/// How many of its nodes may stand in one another's comprehensions.
const MAX_LOOPS: usize = 3;
/// How many regular expressions one expression may have.
const MAX_PATTERNS: usize = 8;

/// Regular expressions by their text.
pub(super) type Patterns = BTreeMap<String, Regex>;

/// Operators that may be used; the rest of the calls are [`functions`].
const OPERATORS: [&str; 18] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::IN,
];

/// Refuses, before the parser sees it, what nests deeper than any condition needs: brackets, signs and conditions.
pub(super) fn nesting(text: &str) -> Result<(), CelError> {
    let (mut depth, mut signs) = (0_u16, 0_u16);
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if let Some(end) = quote {
            match c {
                '\\' => drop(chars.next()),
                _ if c == end => quote = None,
                _ => {}
            }
            continue;
        }
        match c {
            '"' | '\'' => quote = Some(c),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '!' | '-' | '?' => signs += 1,
            _ => {}
        }
        if depth > super::MAX_NESTING || signs > 2 * super::MAX_NESTING {
            return Err(unusable("the expression nests too deep"));
        }
    }
    Ok(())
}

/// Checks a parsed expression; gives its regular expressions and the variables it reads.
pub(super) fn program(root: &IdedExpr) -> Result<(Patterns, Vec<Vec<String>>), CelError> {
    let mut check = Check {
        patterns: Patterns::new(),
        references: Vec::new(),
        local: Vec::new(),
    };
    check.expression(root, 0)?;
    check.references.sort();
    check.references.dedup();
    Ok((check.patterns, check.references))
}

struct Check<'a> {
    patterns: Patterns,
    references: Vec<Vec<String>>,
    /// The variables of the comprehensions around.
    local: Vec<&'a str>,
}

impl<'a> Check<'a> {
    fn expression(&mut self, one: &'a IdedExpr, depth: usize) -> Result<(), CelError> {
        if depth > MAX_DEPTH {
            return Err(unusable("the expression nests too deep"));
        }
        let depth = depth + 1;
        match &one.expr {
            Expr::Literal(LiteralValue::Bytes(_)) => Err(unusable("bytes cannot be used here")),
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.reference(name, &[]),
            Expr::Select(select) => {
                let mut members = vec![&*select.field];
                let mut operand = &*select.operand;
                while let Expr::Select(inner) = &operand.expr {
                    members.push(&inner.field);
                    operand = &inner.operand;
                    if members.len() > MAX_DEPTH {
                        return Err(unusable("the expression nests too deep"));
                    }
                }
                members.reverse();
                match &operand.expr {
                    Expr::Ident(name) => self.reference(name, &members),
                    _ => self.expression(operand, depth + members.len()),
                }
            }
            Expr::List(list) if !list.optional_indices.is_empty() => {
                Err(unusable("optional elements cannot be used here"))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|it| self.expression(it, depth)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(it) if !it.optional => {
                    self.expression(&it.key, depth)?;
                    self.expression(&it.value, depth)
                }
                _ => Err(unusable("optional entries cannot be used here")),
            }),
            Expr::Call(call) => {
                let is_operator = call.target.is_none() && OPERATORS.contains(&&*call.func_name);
                if !is_operator {
                    functions::check(&call.func_name, call.target.is_some(), call.args.len())?;
                }
                if call.func_name == functions::MATCHES {
                    self.pattern(call.args.first())?;
                }
                let target = call.target.as_deref();
                target
                    .into_iter()
                    .chain(&call.args)
                    .try_for_each(|it| self.expression(it, depth))
            }
            Expr::Comprehension(it) => {
                self.expression(&it.iter_range, depth)?;
                if self.local.len() >= 2 * MAX_LOOPS {
                    return Err(unusable(&format!("at most {MAX_LOOPS} loops can stand in one another")));
                }
                self.expression(&it.accu_init, depth)?;
                self.local.extend([&*it.iter_var, &*it.accu_var]);
                // The condition is of the macro's own making, and has a function that nobody can write.
                self.expression(&it.loop_step, depth)?;
                self.expression(&it.result, depth)?;
                self.local.truncate(self.local.len() - 2);
                Ok(())
            }
            Expr::Struct(_) => Err(unusable("messages cannot be used here")),
            Expr::Unspecified => Err(unusable("it is no CEL expression")),
        }
    }

    fn reference(&mut self, name: &str, members: &[&str]) -> Result<(), CelError> {
        if self.local.contains(&name) {
            return Ok(());
        }
        let known = ROOTS.contains(&name) || name.strip_prefix("stage_").is_some_and(|it| it.parse::<u32>().is_ok());
        if !known {
            return Err(unusable(&format!("there is no variable {name}")));
        }
        let path = std::iter::once(name).chain(members.iter().copied());
        self.references.push(path.map(str::to_owned).collect());
        Ok(())
    }

    fn pattern(&mut self, argument: Option<&IdedExpr>) -> Result<(), CelError> {
        let Some(Expr::Literal(LiteralValue::String(text))) = argument.map(|it| &it.expr) else {
            return Err(unusable("matches needs its expression as a literal text"));
        };
        let text = text.inner();
        if self.patterns.contains_key(text) {
            return Ok(());
        }
        if self.patterns.len() == MAX_PATTERNS {
            return Err(unusable(&format!(
                "at most {MAX_PATTERNS} regular expressions can be used"
            )));
        }
        let compiled = RegexBuilder::new(text)
            .size_limit(MAX_REGEX_BYTES)
            .dfa_size_limit(MAX_REGEX_BYTES)
            .build()
            .map_err(|error| unusable(&error.to_string()))?;
        self.patterns.insert(text.to_owned(), compiled);
        Ok(())
    }
}

fn unusable(message: &str) -> CelError {
    CelError::Unusable(message.to_owned())
}
