//! The evaluation of a compiled expression, paid for step by step.

use std::{borrow::Cow, cmp::Ordering, collections::BTreeMap, rc::Rc};

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators},
};
use regex::Regex;
use serde_json::Value as Json;

use super::{
    CelError, Program, functions, numbers,
    value::{Scope, Value},
};

/// How many steps an evaluation may take.
const PURSE: u64 = 50_000;
/// How many bytes are gone through for the price of a step.
const BYTES_A_STEP: usize = 32;

/// An evaluation under way.
pub(super) struct Evaluation<'p, 'v> {
    program: &'p Program,
    scope: &'p Scope<'v>,
    /// What is left to pay with.
    purse: u64,
    /// The variables of the loops around, the innermost last.
    local: Vec<(&'p str, Value<'v>)>,
}

impl<'p, 'v> Evaluation<'p, 'v> {
    pub(super) const fn new(program: &'p Program, scope: &'p Scope<'v>) -> Self {
        Self {
            program,
            scope,
            purse: PURSE,
            local: Vec::new(),
        }
    }

    pub(super) fn holds(mut self) -> Result<bool, CelError> {
        match self.value(&self.program.root)? {
            Value::Bool(it) => Ok(it),
            other => Err(CelError::Value(format!("it is {}, not true or false", other.kind()))),
        }
    }

    fn pay(&mut self, steps: usize) -> Result<(), CelError> {
        self.purse = self.purse.checked_sub(steps as u64).ok_or(CelError::Cost)?;
        Ok(())
    }

    fn pay_for_bytes(&mut self, bytes: usize) -> Result<(), CelError> {
        self.pay(bytes / BYTES_A_STEP)
    }

    fn value(&mut self, one: &'p IdedExpr) -> Result<Value<'v>, CelError> {
        self.pay(1)?;
        match &one.expr {
            Expr::Literal(literal) => self.literal(literal),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => {
                let operand = self.value(&select.operand)?;
                let Ok(member) = operand.member(&select.field) else {
                    let message = format!("{} has no members, so no {}", operand.kind(), select.field);
                    return Err(CelError::Value(message));
                };
                if select.test {
                    return Ok(Value::Bool(member.is_some()));
                }
                member.ok_or_else(|| CelError::Value(format!("there is no {}", select.field)))
            }
            Expr::List(list) => {
                let elements = list.elements.iter().map(|it| self.value(it));
                Ok(Value::List(Rc::new(elements.collect::<Result<_, _>>()?)))
            }
            Expr::Map(map) => {
                let mut members = BTreeMap::new();
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else {
                        continue;
                    };
                    let Value::Text(key) = self.value(&entry.key)? else {
                        return Err(CelError::Value("the keys of a map are strings here".into()));
                    };
                    let value = self.value(&entry.value)?;
                    members.insert(key.into_owned(), value);
                }
                Ok(Value::Map(Rc::new(members)))
            }
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(it) => self.comprehension(it),
            Expr::Struct(_) | Expr::Unspecified => Err(CelError::Unusable("it is no CEL expression".into())),
        }
    }

    fn literal(&mut self, literal: &'p LiteralValue) -> Result<Value<'v>, CelError> {
        Ok(match literal {
            LiteralValue::Boolean(it) => Value::Bool(*it.inner()),
            LiteralValue::Double(it) => Value::Double(*it.inner()),
            LiteralValue::Int(it) => Value::Int(*it.inner()),
            LiteralValue::UInt(it) => Value::Int(
                i64::try_from(*it.inner()).map_err(|_| CelError::Value("a whole number is too large".into()))?,
            ),
            LiteralValue::String(it) => {
                self.pay_for_bytes(it.inner().len())?;
                Value::Text(Cow::Owned(it.inner().to_owned()))
            }
            LiteralValue::Null => Value::Null,
            LiteralValue::Bytes(_) => return Err(CelError::Unusable("bytes cannot be used here".into())),
        })
    }

    fn variable(&mut self, name: &str) -> Result<Value<'v>, CelError> {
        let local = self.local.iter().rev().find(|(it, _)| *it == name);
        let found = local.map(|(_, value)| value.clone()).or_else(|| self.scope.root(name));
        if let Some(Value::Text(Cow::Owned(text))) = &found {
            self.pay_for_bytes(text.len())?;
        }
        found.ok_or_else(|| CelError::Value(format!("there is no {name}")))
    }

    fn call(&mut self, call: &'p CallExpr) -> Result<Value<'v>, CelError> {
        let arguments = &*call.args;
        match (&*call.func_name, arguments) {
            (operators::LOGICAL_AND, [a, b]) => self.logical(a, b, false),
            (operators::LOGICAL_OR, [a, b]) => self.logical(a, b, true),
            (operators::CONDITIONAL, [condition, a, b]) => {
                let chosen = if self.condition(condition)? { a } else { b };
                self.value(chosen)
            }
            (operators::LOGICAL_NOT, [a]) => self.condition(a).map(|it| Value::Bool(!it)),
            (operators::NEGATE, [a]) => {
                let value = self.value(a)?;
                numbers::compute(operators::SUBSTRACT, &Value::Int(0), &value)
            }
            (operators::ADD, [accumulated, more]) if self.is_accumulator(accumulated) => self.accumulate(more),
            (operator, [a, b]) if call.target.is_none() => {
                let (left, right) = (self.value(a)?, self.value(b)?);
                self.operate(operator, &left, &right)
            }
            (functions::MATCHES, [pattern]) => {
                let target = call.target.as_deref().ok_or_else(missing)?;
                let text = self.value(target)?;
                let (Value::Text(text), Some(pattern)) = (&text, self.pattern(pattern)) else {
                    return Err(CelError::Value(format!("matches cannot be applied to {}", text.kind())));
                };
                // A search goes over the text once, some steps a byte.
                self.pay_for_bytes(4 * text.len())?;
                Ok(Value::Bool(pattern.is_match(text)))
            }
            (name, _) => {
                let mut operands = call.target.as_deref().into_iter().chain(arguments);
                let on = self.value(operands.next().ok_or_else(missing)?)?;
                let argument = operands.next().map(|it| self.value(it)).transpose()?;
                if let Value::Text(text) = &on {
                    self.pay_for_bytes(text.len())?;
                }
                functions::call(name, &on, argument.as_ref())
            }
        }
    }

    fn pattern(&self, literal: &'p IdedExpr) -> Option<&'p Regex> {
        match &literal.expr {
            Expr::Literal(LiteralValue::String(text)) => self.program.patterns.get(text.inner()),
            _ => None,
        }
    }

    fn condition(&mut self, one: &'p IdedExpr) -> Result<bool, CelError> {
        match self.value(one)? {
            Value::Bool(it) => Ok(it),
            other => Err(CelError::Value(format!("{} is not true or false", other.kind()))),
        }
    }

    /// `a && b` and `a || b`: what decides alone does so on either side, even if the other one is an error.
    fn logical(&mut self, a: &'p IdedExpr, b: &'p IdedExpr, deciding: bool) -> Result<Value<'v>, CelError> {
        let left = self.condition(a);
        match left {
            Ok(it) if it == deciding => return Ok(Value::Bool(deciding)),
            Err(CelError::Cost) => return Err(CelError::Cost),
            _ => {}
        }
        let right = self.condition(b)?;
        if right == deciding {
            return Ok(Value::Bool(deciding));
        }
        left.map(Value::Bool)
    }

    fn operate(&mut self, operator: &str, left: &Value<'v>, right: &Value<'v>) -> Result<Value<'v>, CelError> {
        match operator {
            operators::EQUALS => self.equal(left, right).map(Value::Bool),
            operators::NOT_EQUALS => self.equal(left, right).map(|it| Value::Bool(!it)),
            operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS => {
                if let (Value::Text(a), Value::Text(b)) = (left, right) {
                    self.pay_for_bytes(a.len().min(b.len()))?;
                }
                let order = numbers::order(left, right)?;
                Ok(Value::Bool(match operator {
                    operators::LESS => order == Some(Ordering::Less),
                    operators::LESS_EQUALS => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                    operators::GREATER => order == Some(Ordering::Greater),
                    _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
                }))
            }
            operators::IN => self.is_in(left, right).map(Value::Bool),
            operators::INDEX => Self::indexed(left, right),
            operators::ADD => self.add(left, right),
            _ => numbers::compute(operator, left, right),
        }
    }

    fn add(&mut self, left: &Value<'v>, right: &Value<'v>) -> Result<Value<'v>, CelError> {
        if let (Value::Text(a), Value::Text(b)) = (left, right) {
            self.pay_for_bytes(a.len() + b.len())?;
            return Ok(Value::Text(Cow::Owned(format!("{a}{b}"))));
        }
        let (Some(a), Some(b)) = (self.list(left)?, self.list(right)?) else {
            return numbers::compute(operators::ADD, left, right);
        };
        let mut joined = a;
        joined.extend(b);
        Ok(Value::List(Rc::new(joined)))
    }

    /// A copy of a list; none if it is something else.
    fn list(&mut self, value: &Value<'v>) -> Result<Option<Vec<Value<'v>>>, CelError> {
        let elements = match value {
            Value::Items(_) | Value::List(_) => value.elements(),
            _ => None,
        };
        let Some(elements) = elements else { return Ok(None) };
        self.pay(elements.len())?;
        let copied: Vec<_> = (0..elements.len()).filter_map(|place| elements.get(place)).collect();
        let owned: usize = copied.iter().map(owned_bytes).sum();
        self.pay_for_bytes(owned)?;
        Ok(Some(copied))
    }

    fn indexed(value: &Value<'v>, index: &Value<'v>) -> Result<Value<'v>, CelError> {
        let found = match (value, index) {
            (Value::Items(_) | Value::List(_), Value::Int(place)) => {
                let place = usize::try_from(*place).ok();
                place.and_then(|place| value.elements()?.get(place))
            }
            (_, Value::Text(name)) => value.member(name).ok().flatten(),
            _ => None,
        };
        found.ok_or_else(|| CelError::Value("there is nothing at this index".into()))
    }

    fn is_in(&mut self, wanted: &Value<'v>, among: &Value<'v>) -> Result<bool, CelError> {
        if let (Value::Text(name), Ok(member)) = (
            wanted,
            among.member(match wanted {
                Value::Text(name) => name,
                _ => "",
            }),
        ) {
            self.pay_for_bytes(name.len())?;
            return Ok(member.is_some());
        }
        let Some(elements) = among.elements() else {
            return Err(CelError::Value(format!("nothing can be in {}", among.kind())));
        };
        for place in 0..elements.len() {
            self.pay(1)?;
            if let Some(element) = elements.get(place)
                && self.equal(wanted, &element)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn equal(&mut self, left: &Value<'v>, right: &Value<'v>) -> Result<bool, CelError> {
        self.pay(1)?;
        match (left, right) {
            (Value::Null, Value::Null) => Ok(true),
            (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
            (Value::Int(a), Value::Int(b)) => Ok(a == b),
            (Value::Int(_) | Value::Double(_), Value::Int(_) | Value::Double(_)) => Ok(numbers::double(left)
                .total_cmp(&numbers::double(right))
                == Ordering::Equal
                || numbers::order(left, right)? == Some(Ordering::Equal)),
            (Value::Text(a), Value::Text(b)) => {
                self.pay_for_bytes(a.len().min(b.len()))?;
                Ok(a == b)
            }
            (Value::Items(a), Value::Items(b)) => {
                self.pay_for(a)?;
                Ok(a == b)
            }
            (Value::Items(_) | Value::List(_), Value::Items(_) | Value::List(_)) => {
                let (Some(a), Some(b)) = (left.elements(), right.elements()) else {
                    return Ok(false);
                };
                if a.len() != b.len() {
                    return Ok(false);
                }
                for place in 0..a.len() {
                    if let (Some(a), Some(b)) = (a.get(place), b.get(place))
                        && !self.equal(&a, &b)?
                    {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Members(_) | Value::Map(_), Value::Members(_) | Value::Map(_)) => {
                let (Some(names), Some(others)) = (left.elements(), right.elements()) else {
                    return Ok(false);
                };
                self.pay(names.len() + others.len())?;
                if names.len() != others.len() {
                    return Ok(false);
                }
                for place in 0..names.len() {
                    let Some(Value::Text(name)) = names.get(place) else {
                        return Ok(false);
                    };
                    let (Ok(Some(a)), Ok(Some(b))) = (left.member(&name), right.member(&name)) else {
                        return Ok(false);
                    };
                    if !self.equal(&a, &b)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Pays for going through JSON that lies elsewhere.
    fn pay_for(&mut self, items: &[Json]) -> Result<(), CelError> {
        let mut open: Vec<&Json> = items.iter().collect();
        self.pay(open.len())?;
        while let Some(one) = open.pop() {
            match one {
                Json::String(text) => self.pay_for_bytes(text.len())?,
                Json::Array(items) => {
                    self.pay(items.len())?;
                    open.extend(items);
                }
                Json::Object(members) => {
                    self.pay(2 * members.len())?;
                    open.extend(members.values());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn comprehension(&mut self, it: &'p ComprehensionExpr) -> Result<Value<'v>, CelError> {
        let range = self.value(&it.iter_range)?;
        let Some(elements) = range.elements() else {
            return Err(CelError::Value(format!("{} cannot be gone through", range.kind())));
        };
        if !matches!(range, Value::Items(_) | Value::List(_)) {
            self.pay(elements.len())?;
        }
        let mut accumulated = self.value(&it.accu_init)?;
        // `all` ends with the first that does not hold, `exists` with the first that does; an error may yet be outvoted.
        let ends_at = match &it.accu_init.expr {
            Expr::Literal(LiteralValue::Boolean(init)) => Some(!*init.inner()),
            _ => None,
        };
        let mut error = None;
        for place in 0..elements.len() {
            self.pay(1)?;
            let Some(element) = elements.get(place) else { break };
            let depth = self.local.len();
            self.local.push((&it.iter_var, element));
            self.local.push((&it.accu_var, accumulated));
            let step = self.value(&it.loop_step);
            let kept = self.local.drain(depth..).next_back().map(|(_, value)| value);
            accumulated = match step {
                Ok(value) => value,
                Err(failed) if ends_at.is_some() && failed != CelError::Cost => {
                    error = Some(failed);
                    kept.unwrap_or(Value::Null)
                }
                Err(failed) => return Err(failed),
            };
            if let (Some(end), Value::Bool(now)) = (ends_at, &accumulated)
                && *now == end
            {
                return Ok(accumulated);
            }
        }
        if let Some(error) = error {
            return Err(error);
        }
        self.local.push((&it.accu_var, accumulated));
        let result = self.value(&it.result);
        self.local.pop();
        result
    }

    /// Whether it is what the innermost loop gathers in: a name that nobody can write.
    fn is_accumulator(&self, one: &IdedExpr) -> bool {
        match (&one.expr, self.local.last()) {
            (Expr::Ident(name), Some((innermost, Value::List(_)))) => name == innermost && name.starts_with('@'),
            _ => false,
        }
    }

    /// Puts more into the list that the innermost loop gathers, without copying what is there.
    fn accumulate(&mut self, more: &'p IdedExpr) -> Result<Value<'v>, CelError> {
        let more = self.value(more)?;
        let more = self.list(&more)?.unwrap_or_default();
        let taken = self
            .local
            .last_mut()
            .map(|(_, value)| std::mem::replace(value, Value::Null));
        let Some(Value::List(mut list)) = taken else {
            return Err(missing());
        };
        Rc::make_mut(&mut list).extend(more);
        Ok(Value::List(list))
    }
}

/// How many bytes copying a value copies.
fn owned_bytes(value: &Value<'_>) -> usize {
    match value {
        Value::Text(Cow::Owned(text)) => text.len(),
        _ => 0,
    }
}

fn missing() -> CelError {
    CelError::Unusable("it is no CEL expression".into())
}
