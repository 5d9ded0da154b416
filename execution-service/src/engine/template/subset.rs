//! Which part of the template language may be used: what inserts, chooses and goes through what is there.
//!
//! Nothing allowed here makes a value that is larger than the values it was given, but for filters that cap what they make. That
//! rules out joining and repeating texts, lists and objects made of variables, names for intermediate values, captured
//! blocks, calls and recursion. The check goes over the parsed template, before anything of it is computed.

use minijinja::machinery::{Span, Token, ast, parse, tokenize};

use super::{
    MAX_TEMPLATE_BYTES, TemplateError,
    filters::{FILTERS, TESTS},
    syntax,
};

/// The names, operators and values that one expression may be made of.
const MAX_EXPRESSION_TOKENS: u32 = 200;
/// The `{% … %}` of one template.
const MAX_TAGS: u32 = 200;

/// An error that names the first thing beyond the subset.
pub(super) fn check(template: &str) -> Result<(), TemplateError> {
    if template.len() > MAX_TEMPLATE_BYTES {
        return Err(TemplateError::new(format!(
            "a template has at most {MAX_TEMPLATE_BYTES} bytes"
        )));
    }
    check_depth(template)?;
    statement(&parse(template, "", syntax())?)
}

/// Refuses, before anything recurses over it, what would nest deeper than the stack is: the parser bounds brackets, but not
/// chains of operators, filters, attributes and `elif`, each of which nests the tree by one.
fn check_depth(template: &str) -> Result<(), TemplateError> {
    let (mut pieces, mut tags) = (0, 0);
    for token in tokenize(template, false, syntax()) {
        let (token, span) = token?;
        match token {
            Token::TemplateData(_) => continue,
            Token::VariableStart => pieces = 0,
            Token::BlockStart => {
                pieces = 0;
                tags += 1;
            }
            _ => pieces += 1,
        }
        let line = span.start_line;
        if pieces > MAX_EXPRESSION_TOKENS {
            return Err(TemplateError::new(format!("line {line}: an expression is too long")));
        }
        if tags > MAX_TAGS {
            return Err(TemplateError::new(format!(
                "line {line}: a template has at most {MAX_TAGS} tags"
            )));
        }
    }
    Ok(())
}

fn refused(span: Span, what: &str) -> TemplateError {
    TemplateError::new(format!(
        "line {}: {what} cannot be used in templates here",
        span.start_line
    ))
}

fn statements(all: &[ast::Stmt<'_>]) -> Result<(), TemplateError> {
    all.iter().try_for_each(statement)
}

fn statement(one: &ast::Stmt<'_>) -> Result<(), TemplateError> {
    match one {
        ast::Stmt::Template(template) => statements(&template.children),
        ast::Stmt::EmitRaw(_) => Ok(()),
        ast::Stmt::EmitExpr(emit) => expression(&emit.expr),
        ast::Stmt::IfCond(condition) => {
            expression(&condition.expr)?;
            statements(&condition.true_body)?;
            statements(&condition.false_body)
        }
        ast::Stmt::ForLoop(repeat) => {
            if repeat.recursive {
                return Err(refused(repeat.span(), "a recursive loop"));
            }
            expression(&repeat.iter)?;
            repeat.filter_expr.iter().try_for_each(expression)?;
            statements(&repeat.body)?;
            statements(&repeat.else_body)
        }
        ast::Stmt::WithBlock(other) => Err(refused(other.span(), "with")),
        ast::Stmt::Set(other) => Err(refused(other.span(), "set")),
        ast::Stmt::SetBlock(other) => Err(refused(other.span(), "set")),
        ast::Stmt::AutoEscape(other) => Err(refused(other.span(), "autoescape")),
        ast::Stmt::FilterBlock(other) => Err(refused(other.span(), "a filter block")),
        ast::Stmt::Do(other) => Err(refused(other.span(), "do")),
    }
}

fn expression(one: &ast::Expr<'_>) -> Result<(), TemplateError> {
    match one {
        ast::Expr::Var(_) | ast::Expr::Const(_) => Ok(()),
        ast::Expr::Slice(slice) => {
            expression(&slice.expr)?;
            [&slice.start, &slice.stop, &slice.step]
                .into_iter()
                .flatten()
                .try_for_each(expression)
        }
        ast::Expr::UnaryOp(unary) => expression(&unary.expr),
        ast::Expr::BinOp(binary) => {
            if !may_join(binary) {
                return Err(refused(binary.span(), "an operator that joins or repeats values"));
            }
            expression(&binary.left)?;
            expression(&binary.right)
        }
        ast::Expr::Compare(compare) => {
            expression(&compare.expr)?;
            compare.ops.iter().try_for_each(|op| expression(&op.expr))
        }
        ast::Expr::IfExpr(choice) => {
            expression(&choice.test_expr)?;
            expression(&choice.true_expr)?;
            choice.false_expr.iter().try_for_each(expression)
        }
        ast::Expr::Filter(filter) => {
            known(filter.name, FILTERS, filter.span(), "filter")?;
            filter.expr.iter().try_for_each(expression)?;
            arguments(&filter.args, filter.span())
        }
        ast::Expr::Test(test) => {
            known(test.name, TESTS, test.span(), "test")?;
            expression(&test.expr)?;
            arguments(&test.args, test.span())
        }
        ast::Expr::GetAttr(attribute) => expression(&attribute.expr),
        ast::Expr::GetItem(item) => {
            expression(&item.expr)?;
            expression(&item.subscript_expr)
        }
        ast::Expr::List(list) => constants(&list.items, list.span()),
        ast::Expr::Tuple(tuple) => constants(&tuple.items, tuple.span()),
        ast::Expr::Map(map) => Err(refused(map.span(), "an object")),
        ast::Expr::Call(call) => Err(refused(call.span(), "a call")),
    }
}

fn known(name: &str, names: &[&str], span: Span, what: &str) -> Result<(), TemplateError> {
    if names.contains(&name) {
        return Ok(());
    }
    Err(refused(span, &format!("the {what} \"{name}\"")))
}

/// Whether the operator works on numbers alone; `+` does where one side is a number in the template's text.
fn may_join(binary: &ast::BinOp<'_>) -> bool {
    match binary.op {
        ast::BinOpKind::Concat | ast::BinOpKind::Mul | ast::BinOpKind::Pow => false,
        ast::BinOpKind::Add => [&binary.left, &binary.right]
            .into_iter()
            .any(|side| matches!(side, ast::Expr::Const(constant) if constant.value.is_number())),
        _ => true,
    }
}

fn arguments(all: &[ast::CallArg<'_>], span: Span) -> Result<(), TemplateError> {
    all.iter().try_for_each(|argument| match argument {
        ast::CallArg::Pos(value) | ast::CallArg::Kwarg(_, value) => expression(value),
        ast::CallArg::PosSplat(_) | ast::CallArg::KwargSplat(_) => {
            Err(refused(span, "an argument list from a variable"))
        }
    })
}

fn constants(items: &[ast::Expr<'_>], span: Span) -> Result<(), TemplateError> {
    if items.iter().all(|item| matches!(item, ast::Expr::Const(_))) {
        return Ok(());
    }
    Err(refused(span, "a list of anything but constants"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_nest_deeper_than_the_stack_is_refused_before_anything_recurses() {
        let chains = [
            "not ".repeat(15_000) + "x",
            "-".repeat(30_000) + "x",
            "x".to_owned() + &"|trim".repeat(12_000),
            "x".to_owned() + &".a".repeat(30_000),
            "x".to_owned() + &" and x".repeat(9_000),
            "x if x else ".repeat(4_500) + "x",
        ];
        for chain in chains {
            let error = check(&format!("{{{{ {chain} }}}}")).unwrap_err();
            assert!(error.to_string().contains("too long"), "{error}");
        }
        let elifs = "{% if x %}".to_owned() + &"{% elif x %}".repeat(5_000) + "{% endif %}";
        assert!(check(&elifs).is_err());
    }

    #[test]
    fn what_people_write_is_taken() {
        let chain = "x".to_owned() + &" and x".repeat(90);
        check(&format!("{{{{ {chain} }}}}")).unwrap();
        check(&"{% if x %}a{% endif %}".repeat(100)).unwrap();
        check(&"plain text {{ x }} ".repeat(2_000)).unwrap();
    }
}
