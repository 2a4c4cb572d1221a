//! `modules.re`, `modules.itertools` and `modules.datetime`: the parts of Python's library that dbt lends to templates.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use regex::{Regex, RegexBuilder};

use super::containers::mutable;

/// The most that `itertools` makes of its lists: what is longer was not meant for SQL.
const MOST: usize = 100_000;

/// Makes `modules` known.
pub(super) fn register(environment: &mut Environment<'static>) {
    let re = Value::from_object(Re);
    let itertools = Value::from_object(Itertools);
    let modules = [("datetime", super::dates::module()), ("re", re), ("itertools", itertools)];
    environment.add_global("modules", Value::from_pairs(modules));
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn list(items: impl IntoIterator<Item = Value>) -> Value {
    mutable(&items.into_iter().collect::<Vec<Value>>().into())
}

/// `modules.re`, or with a pattern what `re.compile` gives.
#[derive(Debug)]
struct Re;

impl Object for Re {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        // As Python's numbers, which are added up.
        match key.as_str()? {
            "I" | "IGNORECASE" => Some(Value::from(2)),
            "M" | "MULTILINE" => Some(Value::from(8)),
            "S" | "DOTALL" => Some(Value::from(16)),
            "X" | "VERBOSE" => Some(Value::from(64)),
            _ => None,
        }
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        if method == "escape" {
            let (text,): (String,) = from_args(args)?;
            return Ok(Value::from(regex::escape(&text)));
        }
        let (pattern, Rest(rest), kwargs): (String, Rest<Value>, Kwargs) = from_args(args)?;
        let given = kwargs.get::<Option<u32>>("flags")?;
        let at = if matches!(method, "sub" | "split") {
            3
        } else if method == "compile" {
            0
        } else {
            1
        };
        let flags = given.or_else(|| rest.get(at).and_then(|flags| u32::try_from(flags.clone()).ok())).unwrap_or(0);
        let compiled = Pattern(compile(&pattern, flags)?);
        match method {
            "compile" => Ok(Value::from_object(compiled)),
            _ => compiled.run(method, &rest, &kwargs),
        }
    }
}

fn compile(pattern: &str, flags: u32) -> Result<Regex, Error> {
    let built = RegexBuilder::new(pattern)
        .case_insensitive(flags & 2 != 0)
        .multi_line(flags & 8 != 0)
        .dot_matches_new_line(flags & 16 != 0)
        .ignore_whitespace(flags & 64 != 0)
        .size_limit(1 << 22)
        .build();
    built.map_err(|error| {
        let last = error.to_string();
        let last = last.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        wrong(format!("`{pattern}` is not a regular expression: {last}"))
    })
}

/// A compiled regular expression.
#[derive(Debug)]
struct Pattern(Regex);

impl Pattern {
    fn run(&self, method: &str, args: &[Value], kwargs: &Kwargs) -> Result<Value, Error> {
        let text = |at: usize| -> Result<&str, Error> {
            let value = args.get(at).ok_or_else(|| wrong(format!("re.{method}() takes a pattern and a text")))?;
            value.as_str().ok_or_else(|| wrong(format!("re.{method}() takes a text, not {}", value.kind())))
        };
        let count: Option<usize> = kwargs.get("count")?;
        match method {
            "search" => Ok(self.found(text(0)?, |_, _, _| true)),
            "match" => Ok(self.found(text(0)?, |_, start, _| start == 0)),
            "fullmatch" => Ok(self.found(text(0)?, |text, start, end| start == 0 && end == text.len())),
            "findall" => Ok(list(self.0.captures_iter(text(0)?).map(|captures| match captures.len() {
                1 | 2 => group(&captures, captures.len() - 1),
                groups => Value::from((1..groups).map(|at| group(&captures, at)).collect::<Vec<_>>()),
            }))),
            "split" => Ok(list(self.0.split(text(0)?).map(Value::from))),
            "sub" => {
                let replacement = python_replacement(text(0)?);
                let limit = count.or_else(|| args.get(2)?.as_usize()).unwrap_or(0);
                Ok(Value::from(self.0.replacen(text(1)?, limit, replacement.as_str()).into_owned()))
            }
            _ => Err(Error::new(ErrorKind::UnknownMethod, format!("modules.re has no `{method}`"))),
        }
    }

    fn found(&self, text: &str, is_wanted: impl Fn(&str, usize, usize) -> bool) -> Value {
        let captures = self
            .0
            .captures(text)
            .filter(|captures| captures.get(0).is_some_and(|whole| is_wanted(text, whole.start(), whole.end())));
        captures.map_or(Value::from(()), |captures| {
            let whole = captures.get(0).map_or((0, 0), |whole| (whole.start(), whole.end()));
            let groups = captures.iter().map(|group| group.map(|group| group.as_str().to_owned())).collect();
            let names = self.0.capture_names().map(|name| name.map(str::to_owned)).collect();
            Value::from_object(Match { groups, names, whole })
        })
    }
}

fn group(captures: &regex::Captures<'_>, at: usize) -> Value {
    Value::from(captures.get(at).map_or("", |group| group.as_str()))
}

/// `\1` and `\g<name>` as this library writes them.
fn python_replacement(text: &str) -> String {
    let mut made = String::new();
    let mut rest = text.replace('$', "$$");
    while let Some(at) = rest.find('\\') {
        made.push_str(&rest[..at]);
        let after = rest[at + 1..].to_owned();
        let digits = after.chars().take_while(char::is_ascii_digit).count();
        if digits > 0 {
            made.push_str(&format!("${{{}}}", &after[..digits]));
            rest = after[digits..].to_owned();
        } else if let Some((name, tail)) = after.strip_prefix("g<").and_then(|named| named.split_once('>')) {
            made.push_str(&format!("${{{name}}}"));
            rest = tail.to_owned();
        } else {
            made.push('\\');
            let skipped = after.chars().next().filter(|c| *c == '\\').map_or(0, char::len_utf8);
            rest = after[skipped..].to_owned();
        }
    }
    made + &rest
}

impl Object for Pattern {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let (Rest(rest), kwargs): (Rest<Value>, Kwargs) = from_args(args)?;
        self.run(method, &rest, &kwargs)
    }
}

/// What `re.match` found.
#[derive(Debug)]
struct Match {
    groups: Vec<Option<String>>,
    names: Vec<Option<String>>,
    whole: (usize, usize),
}

impl Match {
    fn group(&self, key: &Value) -> Result<Value, Error> {
        let at = match key.as_str() {
            Some(name) => self.names.iter().position(|known| known.as_deref() == Some(name)),
            None => key.as_usize().filter(|at| *at < self.groups.len()),
        };
        let at = at.ok_or_else(|| wrong(format!("there is no group {key} in this pattern")))?;
        Ok(Value::from(self.groups[at].clone()))
    }
}

impl Object for Match {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "group" => {
                let (key,): (Option<Value>,) = from_args(args)?;
                self.group(&key.unwrap_or(Value::from(0)))
            }
            "groups" => Ok(list(self.groups.iter().skip(1).map(|group| Value::from(group.clone())))),
            "groupdict" => {
                let named = self.names.iter().zip(&self.groups);
                let pairs = named.filter_map(|(name, group)| Some((name.clone()?, Value::from(group.clone()))));
                Ok(Value::from_pairs(pairs))
            }
            "start" => Ok(Value::from(self.whole.0)),
            "end" => Ok(Value::from(self.whole.1)),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<match {:?}>", self.groups.first().cloned().flatten().unwrap_or_default())
    }
}

/// `modules.itertools`.
#[derive(Debug)]
struct Itertools;

impl Object for Itertools {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let (Rest(lists), kwargs): (Rest<Value>, Kwargs) = from_args(args)?;
        let items = |value: &Value| -> Result<Vec<Value>, Error> { Ok(value.try_iter()?.collect()) };
        let made: Vec<Vec<Value>> = match method {
            "chain" => {
                let all: Result<Vec<Vec<Value>>, Error> = lists.iter().map(items).collect();
                return Ok(list(all?.into_iter().flatten()));
            }
            "product" => {
                let repeat: usize = kwargs.get::<Option<usize>>("repeat")?.unwrap_or(1);
                let all: Result<Vec<Vec<Value>>, Error> = lists.iter().map(items).collect();
                let all = all?;
                let factors: Vec<&Vec<Value>> = (0..repeat.min(64)).flat_map(|_| &all).collect();
                product(&factors)?
            }
            "combinations" | "permutations" => {
                let [from, rest @ ..] = lists.as_slice() else {
                    return Err(wrong(format!("itertools.{method}() takes a list")));
                };
                let from = items(from)?;
                let length = rest.first().and_then(Value::as_usize).or(kwargs.get("r")?).unwrap_or(from.len());
                choices(&from, length, method == "combinations")?
            }
            _ => return Err(Error::new(ErrorKind::UnknownMethod, format!("modules.itertools has no `{method}` here"))),
        };
        kwargs.assert_all_used()?;
        Ok(list(made.into_iter().map(Value::from)))
    }
}

fn bounded(made: Vec<Vec<Value>>) -> Result<Vec<Vec<Value>>, Error> {
    if made.len() > MOST { Err(wrong(format!("this makes more than {MOST} combinations"))) } else { Ok(made) }
}

fn product(factors: &[&Vec<Value>]) -> Result<Vec<Vec<Value>>, Error> {
    let mut made = vec![Vec::new()];
    for factor in factors {
        if made.len().saturating_mul(factor.len()) > MOST {
            return Err(wrong(format!("this makes more than {MOST} combinations")));
        }
        made = made
            .iter()
            .flat_map(|start: &Vec<Value>| {
                factor.iter().map(move |item| [start.as_slice(), std::slice::from_ref(item)].concat())
            })
            .collect();
    }
    Ok(made)
}

/// All choices of `length` items: in the order of the list, or in any order.
fn choices(from: &[Value], length: usize, in_order: bool) -> Result<Vec<Vec<Value>>, Error> {
    if length > from.len() {
        return Ok(Vec::new());
    }
    let mut made: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in 0..length {
        let mut longer = Vec::new();
        for start in &made {
            let first = if in_order { start.last().map_or(0, |last| last + 1) } else { 0 };
            longer.extend(
                (first..from.len()).filter(|at| !start.contains(at)).map(|at| [start.as_slice(), &[at]].concat()),
            );
            if longer.len() > MOST {
                break;
            }
        }
        made = longer;
        if made.len() > MOST {
            break;
        }
    }
    bounded(made.into_iter().map(|chosen| chosen.into_iter().map(|at| from[at].clone()).collect()).collect())
}
