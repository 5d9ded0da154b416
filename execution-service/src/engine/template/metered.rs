//! A template with a meter on whatever touches every byte of a value.
//!
//! Fuel counts steps, and one step compares, searches or sorts a whole document. So the template is built anew with the filter
//! [`METER`] around the operands of such steps and around what filters make. It gives its value on unchanged and counts its
//! bytes against [`MAX_TOUCHED_BYTES`]. Raw text becomes a constant, so that all output goes through the formatter.

use minijinja::{
    Environment, Error, ErrorKind, State, Value,
    machinery::{
        Span,
        ast::{
            BinOp, BinOpKind, CallArg, Compare, CompareOp, Const, EmitExpr, Expr, Filter, ForLoop, GetAttr, GetItem,
            IfCond, IfExpr, List, Slice, Spanned, Stmt, Template, Test, Tuple, UnaryOp, UnaryOpKind, Var,
        },
    },
    value::ValueKind,
};

/// How many bytes the steps of a rendering may touch.
pub(super) const MAX_TOUCHED_BYTES: u64 = 64 << 20;
/// The filter; no template can name it.
const METER: &str = "~";
/// What a value costs beside its text, and an item of a list beside its own.
const BASE: u64 = 16;
/// How often sorting looks at everything: the logarithm of as many items as a value can have.
const SORTING: u64 = 20;
/// How deep values are looked into; the JSON that they come from is not deeper.
const MAX_NESTING: usize = 256;

/// How much of an operand a step touches.
#[derive(Clone, Copy)]
enum Reach {
    /// Its own text or the places of its items.
    Top,
    /// All that is in it, so many times.
    All(u64),
}

/// What is left of a rendering's bytes.
struct Left(u64);

pub(super) fn add_to(environment: &mut Environment<'_>) {
    environment.add_filter(METER, |state: &mut State<'_, '_>, value: Value, times: u64| {
        spend(state, &value, times).map(|()| value)
    });
}

/// Counts the bytes of a value so many times; none means only those at its top.
fn spend(state: &mut State<'_, '_>, value: &Value, times: u64) -> Result<(), Error> {
    let left = &mut state.get_or_insert_extension(Left(MAX_TOUCHED_BYTES)).0;
    if times == 0 {
        return take(left, top(value));
    }
    let mut share = *left / times;
    let before = share;
    walk(value, &mut share, MAX_NESTING)?;
    take(left, (before - share).saturating_mul(times))
}

/// Counts all bytes of a value that is written.
pub(super) fn write(state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    spend(state, value, 1)
}

fn take(left: &mut u64, bytes: u64) -> Result<(), Error> {
    *left = left
        .checked_sub(bytes)
        .ok_or_else(|| Error::from(ErrorKind::OutOfFuel))?;
    Ok(())
}

fn top(value: &Value) -> u64 {
    match value.as_str() {
        Some(text) => BASE + text.len() as u64,
        None => BASE + value.len().map_or(0, |items| BASE.saturating_mul(items as u64)),
    }
}

fn walk(value: &Value, left: &mut u64, depth: usize) -> Result<(), Error> {
    let depth = depth.checked_sub(1).ok_or_else(|| Error::from(ErrorKind::OutOfFuel))?;
    take(left, top(value))?;
    let is_map = value.kind() == ValueKind::Map;
    if !is_map && !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(());
    }
    for item in value.try_iter()? {
        walk(&item, left, depth)?;
        if is_map {
            walk(&value.get_item(&item)?, left, depth)?;
        }
    }
    Ok(())
}

/// The same with the meter in it.
pub(super) fn statement<'a>(one: &Stmt<'a>) -> Stmt<'a> {
    match one {
        Stmt::Template(it) => Stmt::Template(Spanned::new(
            Template {
                children: statements(&it.children),
            },
            it.span(),
        )),
        Stmt::EmitRaw(it) => emit(constant(Value::from(it.raw), it.span()), it.span()),
        Stmt::EmitExpr(it) => emit(expression(&it.expr), it.span()),
        Stmt::IfCond(it) => Stmt::IfCond(Spanned::new(
            IfCond {
                expr: expression(&it.expr),
                true_body: statements(&it.true_body),
                false_body: statements(&it.false_body),
            },
            it.span(),
        )),
        Stmt::ForLoop(it) => Stmt::ForLoop(Spanned::new(
            ForLoop {
                target: expression(&it.target),
                iter: metered(&it.iter, Reach::Top),
                filter_expr: it.filter_expr.as_ref().map(expression),
                recursive: it.recursive,
                body: statements(&it.body),
                else_body: statements(&it.else_body),
            },
            it.span(),
        )),
        Stmt::WithBlock(_)
        | Stmt::Set(_)
        | Stmt::SetBlock(_)
        | Stmt::AutoEscape(_)
        | Stmt::FilterBlock(_)
        | Stmt::Do(_) => {
            unreachable!("the subset has no such statement")
        }
    }
}

fn statements<'a>(all: &[Stmt<'a>]) -> Vec<Stmt<'a>> {
    all.iter().map(statement).collect()
}

fn emit(expr: Expr<'_>, span: Span) -> Stmt<'_> {
    Stmt::EmitExpr(Spanned::new(EmitExpr { expr }, span))
}

fn constant<'a>(value: Value, span: Span) -> Expr<'a> {
    Expr::Const(Spanned::new(Const { value }, span))
}

fn metered<'a>(one: &Expr<'a>, reach: Reach) -> Expr<'a> {
    meter(expression(one), reach)
}

fn meter(expr: Expr<'_>, reach: Reach) -> Expr<'_> {
    let span = expr.span();
    let times = match reach {
        Reach::Top => 0,
        Reach::All(times) => times,
    };
    let filter = Filter {
        name: METER,
        expr: Some(expr),
        args: vec![CallArg::Pos(constant(Value::from(times), span))],
    };
    Expr::Filter(Spanned::new(filter, span))
}

fn expression<'a>(one: &Expr<'a>) -> Expr<'a> {
    match one {
        Expr::Var(it) => Expr::Var(Spanned::new(Var { id: it.id }, it.span())),
        Expr::Const(it) => constant(it.value.clone(), it.span()),
        Expr::Slice(it) => Expr::Slice(Spanned::new(
            Slice {
                expr: metered(&it.expr, Reach::Top),
                start: it.start.as_ref().map(expression),
                stop: it.stop.as_ref().map(expression),
                step: it.step.as_ref().map(expression),
            },
            it.span(),
        )),
        Expr::UnaryOp(it) => {
            let op = if matches!(it.op, UnaryOpKind::Not) {
                UnaryOpKind::Not
            } else {
                UnaryOpKind::Neg
            };
            let expr = expression(&it.expr);
            Expr::UnaryOp(Spanned::new(UnaryOp { op, expr }, it.span()))
        }
        Expr::BinOp(it) => Expr::BinOp(Spanned::new(
            BinOp {
                op: it.op,
                left: operand(it.op, &it.left),
                right: operand(it.op, &it.right),
            },
            it.span(),
        )),
        Expr::Compare(it) => Expr::Compare(Spanned::new(
            Compare {
                expr: metered(&it.expr, Reach::All(1)),
                ops: it
                    .ops
                    .iter()
                    .map(|step| CompareOp {
                        op: step.op,
                        expr: metered(&step.expr, Reach::All(1)),
                    })
                    .collect(),
            },
            it.span(),
        )),
        Expr::IfExpr(it) => Expr::IfExpr(Spanned::new(
            IfExpr {
                test_expr: expression(&it.test_expr),
                true_expr: expression(&it.true_expr),
                false_expr: it.false_expr.as_ref().map(expression),
            },
            it.span(),
        )),
        Expr::Filter(it) => filter(it),
        Expr::Test(it) => Expr::Test(Spanned::new(
            Test {
                name: it.name,
                expr: metered(&it.expr, Reach::Top),
                args: arguments(&it.args),
            },
            it.span(),
        )),
        Expr::GetAttr(it) => Expr::GetAttr(Spanned::new(
            GetAttr {
                expr: expression(&it.expr),
                name: it.name,
            },
            it.span(),
        )),
        Expr::GetItem(it) => Expr::GetItem(Spanned::new(
            GetItem {
                expr: metered(&it.expr, Reach::Top),
                subscript_expr: metered(&it.subscript_expr, Reach::All(1)),
            },
            it.span(),
        )),
        Expr::List(it) => Expr::List(Spanned::new(
            List {
                items: it.items.iter().map(expression).collect(),
            },
            it.span(),
        )),
        Expr::Tuple(it) => Expr::Tuple(Spanned::new(
            Tuple {
                items: it.items.iter().map(expression).collect(),
            },
            it.span(),
        )),
        Expr::Call(_) | Expr::Map(_) => unreachable!("the subset has no such expression"),
    }
}

/// Conditions pass their operands on; everything else looks at them.
fn operand<'a>(op: BinOpKind, one: &Expr<'a>) -> Expr<'a> {
    match op {
        BinOpKind::ScAnd | BinOpKind::ScOr => expression(one),
        _ => metered(one, Reach::All(1)),
    }
}

fn filter<'a>(it: &Spanned<Filter<'a>>) -> Expr<'a> {
    let reach = match it.name {
        "count" | "d" | "default" | "first" | "items" | "last" | "length" => Reach::Top,
        "dictsort" | "max" | "min" | "sort" | "unique" => Reach::All(SORTING),
        _ => Reach::All(1),
    };
    let metered = Filter {
        name: it.name,
        expr: it.expr.as_ref().map(|expr| metered(expr, reach)),
        args: arguments(&it.args),
    };
    meter(Expr::Filter(Spanned::new(metered, it.span())), Reach::Top)
}

fn arguments<'a>(all: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
    let one = |argument: &CallArg<'a>| match argument {
        CallArg::Pos(value) => CallArg::Pos(metered(value, Reach::All(1))),
        CallArg::Kwarg(name, value) => CallArg::Kwarg(name, metered(value, Reach::All(1))),
        CallArg::PosSplat(_) | CallArg::KwargSplat(_) => unreachable!("the subset has no such argument"),
    };
    all.iter().map(one).collect()
}
