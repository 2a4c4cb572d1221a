//! Lists and dicts that change in place, as Python's do: `{% do xs.append(1) %}`. minijinja's own never change, so
//! templates that change some get these instead: see [`super::rewrite`].

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use indexmap::IndexMap;
use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};

/// Makes the constructors known: those that rewriting writes, and Python's own.
pub(super) fn register(environment: &mut Environment<'static>) {
    environment.add_function("__list", |value: Value| list(&value));
    environment.add_function("__dict", |value: Value| dict(&value));
    environment.add_function("dict", |value: Option<Value>, kwargs: Kwargs| -> Result<Value, Error> {
        let made = IndexMap::new();
        let made = Dict(Mutex::new(made));
        made.update(value.as_ref(), &kwargs)?;
        Ok(Value::from_object(made))
    });
    environment.add_filter("list", |value: Value| list(&value));
}

/// A list of what a value iterates over.
fn list(value: &Value) -> Result<Value, Error> {
    Ok(Value::from_object(List(Mutex::new(value.try_iter()?.collect()))))
}

fn dict(value: &Value) -> Result<Value, Error> {
    let pairs: Result<IndexMap<Value, Value>, Error> =
        value.try_iter()?.map(|key| Ok((key.clone(), value.get_item(&key)?))).collect();
    Ok(Value::from_object(Dict(Mutex::new(pairs?))))
}

/// A plain list or dict as one that can change, with all that is in it; any other value as it is.
pub(super) fn mutable(value: &Value) -> Value {
    let is_list = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) && !value.is_tuple();
    if value.downcast_object_ref::<List>().is_some() || value.downcast_object_ref::<Dict>().is_some() {
        value.clone()
    } else if is_list {
        let items = value.try_iter().map(|items| items.map(|item| mutable(&item)).collect()).unwrap_or_default();
        Value::from_object(List(Mutex::new(items)))
    } else if let Some(pairs) = value.downcast_object_ref::<IndexMap<Value, Value>>() {
        let pairs = pairs.iter().map(|(key, value)| (key.clone(), mutable(value))).collect();
        Value::from_object(Dict(Mutex::new(pairs)))
    } else {
        value.clone()
    }
}

/// Advice for a method that changes a list or dict which cannot change.
pub(super) fn cannot_change(value: &Value, method: &str) -> Option<Error> {
    let (methods, what, make) = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => (LIST_METHODS, "list", "{% set xs = xs | list %}"),
        ValueKind::Map => (DICT_METHODS, "dict", "{% set d = dict(d) %}"),
        _ => return None,
    };
    methods.contains(&method).then(|| {
        super::introspection::problem(super::scope::Problem {
            id: crate::diagnostics::Id::Template,
            message: format!("this {what} cannot change, so it has no `{method}`"),
            help: vec![format!("make one of your own first: `{make}`")],
            missing: None,
        })
    })
}

const LIST_METHODS: &[&str] =
    &["append", "extend", "insert", "pop", "remove", "clear", "reverse", "sort", "add", "copy", "index"];
const DICT_METHODS: &[&str] = &["update", "pop", "popitem", "setdefault", "clear", "copy"];

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// Refuses what would make a container hold itself: nothing could print it.
fn check_no_cycle(new: &Value, own: *const ()) -> Result<(), Error> {
    fn holds(value: &Value, own: *const ()) -> bool {
        if let Some(list) = value.downcast_object_ref::<List>() {
            return std::ptr::from_ref(list).cast::<()>() == own || list.items().iter().any(|item| holds(item, own));
        }
        if let Some(dict) = value.downcast_object_ref::<Dict>() {
            return std::ptr::from_ref(dict).cast::<()>() == own || dict.pairs().values().any(|item| holds(item, own));
        }
        match value.kind() {
            ValueKind::Seq => value.try_iter().is_ok_and(|mut items| items.any(|item| holds(&item, own))),
            _ => false,
        }
    }
    if holds(new, own) { Err(wrong("a list or dict cannot be put into itself")) } else { Ok(()) }
}

/// A list that can change.
#[derive(Debug)]
struct List(Mutex<Vec<Value>>);

impl List {
    fn items(&self) -> MutexGuard<'_, Vec<Value>> {
        self.0.lock().expect("nothing panics while it holds a list")
    }

    fn place(&self, index: i64) -> Option<usize> {
        let length = self.items().len();
        let from_end = usize::try_from(index.unsigned_abs()).ok()?;
        let at = if index < 0 { length.checked_sub(from_end)? } else { from_end };
        (at < length).then_some(at)
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = self.place(key.as_i64()?)?;
        self.items().get(at).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items().clone())
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let own = Arc::as_ptr(self).cast::<()>();
        for arg in args {
            check_no_cycle(arg, own)?;
        }
        match method {
            "append" | "add" => {
                let (item,): (Value,) = from_args(args)?;
                let mut items = self.items();
                // `add` is of Python's sets.
                if method == "append" || !items.contains(&item) {
                    items.push(item);
                }
            }
            "extend" => {
                let (more,): (Value,) = from_args(args)?;
                let more: Vec<Value> = more.try_iter()?.collect();
                self.items().extend(more);
            }
            "insert" => {
                let (index, item): (i64, Value) = from_args(args)?;
                let at = self.place(index);
                let mut items = self.items();
                let end = if index < 0 { 0 } else { items.len() };
                items.insert(at.unwrap_or(end), item);
            }
            "pop" => {
                let (index,): (Option<i64>,) = from_args(args)?;
                let at = self.place(index.unwrap_or(-1)).ok_or_else(|| wrong("pop() from an empty or shorter list"))?;
                return Ok(self.items().remove(at));
            }
            "remove" | "index" => {
                let (item,): (Value,) = from_args(args)?;
                let at = self.items().iter().position(|known| *known == item);
                let at = at.ok_or_else(|| wrong(format!("{item} is not in the list")))?;
                if method == "index" {
                    return Ok(Value::from(at));
                }
                self.items().remove(at);
            }
            "clear" => self.items().clear(),
            "reverse" => self.items().reverse(),
            "sort" => {
                let (kwargs,): (Kwargs,) = from_args(args)?;
                let reverse: Option<bool> = kwargs.get("reverse")?;
                kwargs.assert_all_used()?;
                self.items().sort();
                if reverse == Some(true) {
                    self.items().reverse();
                }
            }
            "copy" => return Ok(Value::from_object(Self(Mutex::new(self.items().clone())))),
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        }
        Ok(Value::from(()))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.items().clone()).finish()
    }
}

/// A dict that can change.
#[derive(Debug)]
struct Dict(Mutex<IndexMap<Value, Value>>);

impl Dict {
    fn pairs(&self) -> MutexGuard<'_, IndexMap<Value, Value>> {
        self.0.lock().expect("nothing panics while it holds a dict")
    }

    fn update(&self, other: Option<&Value>, kwargs: &Kwargs) -> Result<(), Error> {
        let mut new = Vec::new();
        if let Some(other) = other {
            for item in other.try_iter()? {
                match other.kind() {
                    ValueKind::Map => new.push((item.clone(), other.get_item(&item)?)),
                    // A list of pairs.
                    _ => new.push((item.get_item_by_index(0)?, item.get_item_by_index(1)?)),
                }
            }
        }
        for key in kwargs.args() {
            new.push((Value::from(key), kwargs.get(key)?));
        }
        self.pairs().extend(new);
        Ok(())
    }
}

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.pairs().get(key).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.pairs().keys().cloned().collect())
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let own = Arc::as_ptr(self).cast::<()>();
        for arg in args {
            check_no_cycle(arg, own)?;
        }
        match method {
            "update" => {
                let (other, kwargs): (Option<Value>, Kwargs) = from_args(args)?;
                self.update(other.as_ref(), &kwargs)?;
            }
            "setdefault" => {
                let (key, default): (Value, Option<Value>) = from_args(args)?;
                return Ok(self.pairs().entry(key).or_insert(default.unwrap_or(Value::from(()))).clone());
            }
            "pop" => {
                let (key, default): (Value, Option<Value>) = from_args(args)?;
                let found = self.pairs().shift_remove(&key).or(default);
                return found.ok_or_else(|| wrong(format!("{key} is not in the dict")));
            }
            "popitem" => {
                let last = self.pairs().pop().ok_or_else(|| wrong("popitem() from an empty dict"))?;
                return Ok(Value::from(vec![last.0, last.1]));
            }
            "clear" => self.pairs().clear(),
            "copy" => return Ok(Value::from_object(Self(Mutex::new(self.pairs().clone())))),
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        }
        Ok(Value::from(()))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.pairs().clone()).finish()
    }
}
