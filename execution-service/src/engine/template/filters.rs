//! The filters and tests that templates have. None makes a value larger than its input, but for three that are capped.

use std::{borrow::Cow, fmt::Write as _};

use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter, filters, tests};

use super::{MAX_TEXT_BYTES, metered};
use crate::engine::passages::Passages;

macro_rules! known {
    ($names:ident, $add:ident, $method:ident, {$($name:literal: $function:expr,)+}) => {
        pub(super) const $names: &[&str] = &[$($name),+];
        fn $add(environment: &mut Environment<'_>) {
            $(environment.$method($name, $function);)+
        }
    };
}

known!(FILTERS, add_filters, add_filter, {
    "abs": filters::abs,
    "capitalize": filters::capitalize,
    "count": filters::length,
    "d": filters::default,
    "default": filters::default,
    "dictsort": filters::dictsort,
    "first": filters::first,
    "float": filters::float,
    "int": filters::int,
    "items": filters::items,
    "join": join,
    "last": filters::last,
    "length": filters::length,
    "lines": filters::lines,
    "lower": filters::lower,
    "max": filters::max,
    "min": filters::min,
    "replace": replace,
    "reverse": filters::reverse,
    "round": filters::round,
    "sort": filters::sort,
    "split": filters::split,
    "title": filters::title,
    "tojson": to_json,
    "trim": filters::trim,
    "unique": filters::unique,
    "upper": filters::upper,
});

known!(TESTS, add_tests, add_test, {
    "defined": tests::is_defined,
    "undefined": tests::is_undefined,
    "none": tests::is_none,
    "boolean": tests::is_boolean,
    "number": tests::is_number,
    "string": tests::is_string,
    "sequence": tests::is_sequence,
    "mapping": tests::is_mapping,
    "odd": tests::is_odd,
    "even": tests::is_even,
    "startingwith": tests::is_startingwith,
    "endingwith": tests::is_endingwith,
});

pub(super) fn add_to(environment: &mut Environment<'_>) {
    add_filters(environment);
    add_tests(environment);
    environment.set_formatter(write_value);
}

/// How many bytes a rendering has written.
struct Written(usize);

/// Texts and passages as they are, everything else as JSON, which is what models read best.
fn write_value(output: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return escape_formatter(output, state, value);
    }
    metered::write(state, value)?;
    let text = if let Some(text) = value.as_str() {
        Cow::Borrowed(text)
    } else if value.downcast_object_ref::<Passages>().is_some() {
        Cow::Owned(value.to_string())
    } else {
        Cow::Owned(to_json(value)?)
    };
    let written = &mut state.get_or_insert_extension(Written(0)).0;
    *written += text.len();
    if *written > MAX_TEXT_BYTES {
        return Err(ErrorKind::WriteFailure.into());
    }
    output.write_str(&text).map_err(Error::from)
}

fn join(list: &Value, separator: Option<&str>) -> Result<String, Error> {
    let mut text = String::new();
    for (place, item) in list.try_iter()?.enumerate() {
        let separator = if place == 0 { "" } else { separator.unwrap_or_default() };
        write!(text, "{separator}{item}").map_err(|_| too_long())?;
        capped(text.len())?;
    }
    Ok(text)
}

fn replace(text: &str, from: &str, to: &str) -> Result<String, Error> {
    let grown = text
        .matches(from)
        .count()
        .saturating_mul(to.len())
        .saturating_add(text.len());
    capped(grown)?;
    Ok(text.replace(from, to))
}

fn to_json(value: &Value) -> Result<String, Error> {
    let text =
        serde_json::to_string(value).map_err(|_| Error::new(ErrorKind::BadSerialization, "the value is no JSON"))?;
    capped(text.len())?;
    Ok(text)
}

fn capped(bytes: usize) -> Result<(), Error> {
    if bytes > MAX_TEXT_BYTES {
        Err(too_long())
    } else {
        Ok(())
    }
}

fn too_long() -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!("the text is longer than {MAX_TEXT_BYTES} bytes"),
    )
}
