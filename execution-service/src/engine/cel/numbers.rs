//! Arithmetic and comparison: whole numbers do not wrap, and numbers of both kinds compare by their value.

use std::cmp::Ordering;

use cel::common::ast::operators;

use super::{CelError, value::Value};

/// `a op b` for the arithmetic operators on numbers.
pub(super) fn compute<'v>(operator: &str, left: &Value<'v>, right: &Value<'v>) -> Result<Value<'v>, CelError> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => whole(operator, *a, *b).map(Value::Int),
        (Value::Int(_) | Value::Double(_), Value::Int(_) | Value::Double(_)) => {
            let (a, b) = (double(left), double(right));
            Ok(Value::Double(match operator {
                operators::ADD => a + b,
                operators::SUBSTRACT => a - b,
                operators::MULTIPLY => a * b,
                operators::DIVIDE => a / b,
                _ => return Err(CelError::Value("% needs whole numbers".into())),
            }))
        }
        _ => Err(CelError::Value(format!(
            "{} cannot be applied to {} and {}",
            sign(operator),
            left.kind(),
            right.kind()
        ))),
    }
}

fn whole(operator: &str, a: i64, b: i64) -> Result<i64, CelError> {
    let result = match operator {
        operators::ADD => a.checked_add(b),
        operators::SUBSTRACT => a.checked_sub(b),
        operators::MULTIPLY => a.checked_mul(b),
        _ if b == 0 => return Err(CelError::Value("a number is divided by zero".into())),
        operators::DIVIDE => a.checked_div(b),
        _ => a.checked_rem(b),
    };
    result.ok_or_else(|| CelError::Value("a whole number grows too large".into()))
}

/// The order of two values of a kind that has one.
pub(super) fn order(left: &Value<'_>, right: &Value<'_>) -> Result<Option<Ordering>, CelError> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => Ok(Some(a.cmp(b))),
        (Value::Int(_) | Value::Double(_), Value::Int(_) | Value::Double(_)) => {
            Ok(double(left).partial_cmp(&double(right)))
        }
        (Value::Text(a), Value::Text(b)) => Ok(Some(a.cmp(b))),
        (Value::Bool(a), Value::Bool(b)) => Ok(Some(a.cmp(b))),
        _ => Err(CelError::Value(format!(
            "{} cannot be compared with {}",
            left.kind(),
            right.kind()
        ))),
    }
}

/// The value of a number.
#[expect(
    clippy::cast_precision_loss,
    reason = "beyond 2^53 nearness is all that a comparison with a double has"
)]
pub(super) fn double(value: &Value<'_>) -> f64 {
    match value {
        Value::Int(whole) => *whole as f64,
        Value::Double(it) => *it,
        _ => f64::NAN,
    }
}

/// An operator as it is written.
pub(super) fn sign(operator: &str) -> &str {
    operator.trim_matches('_')
}
