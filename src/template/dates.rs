//! `modules.datetime`: Python's `datetime`, `date` and `timedelta`, as far as dbt projects use them. All in UTC.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc};
use minijinja::value::{DynObject, Kwargs, Object, ObjectRepr, Rest, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::scope::ScopeObject;

/// Makes the sums known that rewriting writes where dates are moved.
pub(super) fn register(environment: &mut Environment<'static>) {
    environment.add_function("__add", |a: Value, b: Value| sum(&a, &b, 1));
    environment.add_function("__subtract", |a: Value, b: Value| sum(&a, &b, -1));
}

/// The module itself.
pub(super) fn module() -> Value {
    let classes = [("datetime", Class::DateTime), ("date", Class::Date), ("timedelta", Class::TimeDelta)];
    Value::from_pairs(classes.map(|(name, class)| (name, Value::from_object(class))))
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// A moment, a day, or the start of the run. A template that uses the last depends on the clock, which its scope notes.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    at: NaiveDateTime,
    is_day: bool,
    has_zone: bool,
    clock: Option<Arc<ScopeObject>>,
}

impl Moment {
    /// `run_started_at`.
    pub(super) fn of_run(at: DateTime<Utc>, clock: Option<Arc<ScopeObject>>) -> Self {
        Self { at: at.naive_utc(), is_day: false, has_zone: true, clock }
    }

    fn day(day: NaiveDate) -> Self {
        Self { at: day.and_time(chrono::NaiveTime::MIN), is_day: true, has_zone: false, clock: None }
    }

    fn plain(at: NaiveDateTime) -> Self {
        Self { at, is_day: false, has_zone: false, clock: None }
    }

    fn read(&self) -> NaiveDateTime {
        if let Some(scope) = &self.clock {
            scope.record(|recording| recording.asked_clock = true);
        }
        self.at
    }

    fn moved(&self, by: TimeDelta) -> Result<Value, Error> {
        let at = self.read().checked_add_signed(by).ok_or_else(|| wrong("this date is out of range"))?;
        let at = if self.is_day { at.date().and_time(chrono::NaiveTime::MIN) } else { at };
        Ok(Value::from_object(Self { at, clock: None, ..self.clone() }))
    }

    fn text(&self) -> String {
        let at = self.read();
        let pattern = match (self.is_day, at.nanosecond()) {
            (true, _) => "%Y-%m-%d",
            (false, 0) => "%Y-%m-%d %H:%M:%S",
            (false, _) => "%Y-%m-%d %H:%M:%S%.6f",
        };
        format!("{}{}", at.format(pattern), if self.has_zone { "+00:00" } else { "" })
    }

    fn formatted(&self, pattern: &str) -> Result<Value, Error> {
        let mut text = String::new();
        // Python's `%f` is microseconds.
        let chrono = pattern.replace("%f", "%6f");
        let written = fmt::write(&mut text, format_args!("{}", self.read().and_utc().format(&chrono)));
        written.map_err(|_| wrong(format!("`{pattern}` is not a strftime format")))?;
        Ok(Value::from(text))
    }

    fn replaced(&self, kwargs: &Kwargs) -> Result<Value, Error> {
        let at = self.read();
        let part = |name: &str, now: u32| -> Result<u32, Error> { Ok(kwargs.get::<Option<u32>>(name)?.unwrap_or(now)) };
        let year = kwargs.get::<Option<i32>>("year")?.unwrap_or(at.year());
        let day = NaiveDate::from_ymd_opt(year, part("month", at.month())?, part("day", at.day())?);
        let (hour, minute, second) =
            (part("hour", at.hour())?, part("minute", at.minute())?, part("second", at.second())?);
        let micro = part("microsecond", at.nanosecond() / 1000)?;
        kwargs.assert_all_used()?;
        let new = day.and_then(|day| day.and_hms_micro_opt(hour, minute, second, micro));
        let new = new.ok_or_else(|| wrong("there is no such date"))?;
        Ok(Value::from_object(Self { at: new, clock: None, ..self.clone() }))
    }
}

impl Object for Moment {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = self.read();
        Some(match key.as_str()? {
            "year" => Value::from(at.year()),
            "month" => Value::from(at.month()),
            "day" => Value::from(at.day()),
            "hour" => Value::from(at.hour()),
            "minute" => Value::from(at.minute()),
            "second" => Value::from(at.second()),
            "microsecond" => Value::from(at.nanosecond() / 1000),
            _ => return None,
        })
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "strftime" => {
                let (pattern,): (String,) = from_args(args)?;
                return self.formatted(&pattern);
            }
            "replace" => {
                let (kwargs,): (Kwargs,) = from_args(args)?;
                return self.replaced(&kwargs);
            }
            _ => {}
        }
        let () = from_args(args)?;
        let at = self.read();
        Ok(match method {
            "isoformat" => Value::from(self.text().replacen(' ', "T", 1)),
            "date" => Value::from_object(Self::day(at.date())),
            "timestamp" => Value::from(at.and_utc().timestamp()),
            "weekday" => Value::from(at.weekday().num_days_from_monday()),
            "isoweekday" => Value::from(at.weekday().number_from_monday()),
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        })
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<std::cmp::Ordering> {
        Some(self.read().cmp(&other.downcast_ref::<Self>()?.read()))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// `timedelta(days=1)`.
#[derive(Debug)]
struct Delta(TimeDelta);

impl Object for Delta {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let seconds = self.0.num_seconds();
        match key.as_str()? {
            "days" => Some(Value::from(seconds.div_euclid(86_400))),
            "seconds" => Some(Value::from(seconds.rem_euclid(86_400))),
            _ => None,
        }
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let () = from_args(args)?;
        match method {
            "total_seconds" => Ok(Value::from(self.0.num_milliseconds() as f64 / 1000.0)),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<std::cmp::Ordering> {
        Some(self.0.cmp(&other.downcast_ref::<Self>()?.0))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0.num_seconds().div_euclid(86_400), self.0.num_seconds().rem_euclid(86_400));
        if days != 0 {
            write!(f, "{days} day{}, ", if days.abs() == 1 { "" } else { "s" })?;
        }
        write!(f, "{}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
    }
}

/// `a + b` or `a - b`, of dates and of everything else.
fn sum(a: &Value, b: &Value, sign: i32) -> Result<Value, Error> {
    let (left, right) = (a.downcast_object_ref::<Moment>(), b.downcast_object_ref::<Moment>());
    let (left_delta, right_delta) = (a.downcast_object_ref::<Delta>(), b.downcast_object_ref::<Delta>());
    match (left, right, left_delta, right_delta) {
        (Some(moment), _, _, Some(delta)) => moment.moved(delta.0 * sign),
        (_, Some(moment), Some(delta), _) if sign > 0 => moment.moved(delta.0),
        (Some(left), Some(right), _, _) if sign < 0 => Ok(Value::from_object(Delta(left.read() - right.read()))),
        (_, _, Some(left), Some(right)) => {
            let sum = left.0.checked_add(&(right.0 * sign)).ok_or_else(|| wrong("this timedelta is out of range"))?;
            Ok(Value::from_object(Delta(sum)))
        }
        _ => plain_sum(a, b, sign),
    }
}

fn plain_sum(a: &Value, b: &Value, sign: i32) -> Result<Value, Error> {
    let operator = if sign > 0 { '+' } else { '-' };
    if a.is_integer() && b.is_integer() {
        let sum = a.as_i64().zip(b.as_i64()).and_then(|(a, b)| a.checked_add(b.checked_mul(sign.into())?));
        return sum.map(Value::from).ok_or_else(|| wrong(format!("`{a} {operator} {b}` is out of range")));
    }
    if a.is_number() && b.is_number() {
        let (left, right) = (f64::try_from(a.clone())?, f64::try_from(b.clone())?);
        return Ok(Value::from(left + right * f64::from(sign)));
    }
    if sign > 0 {
        if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
            return Ok(Value::from([a, b].concat()));
        }
        let is_list = |value: &Value| value.kind() == minijinja::value::ValueKind::Seq;
        if is_list(a) && is_list(b) {
            return Ok(super::containers::mutable(&a.try_iter()?.chain(b.try_iter()?).collect()));
        }
    }
    let why = if a.is_undefined() || b.is_undefined() { "undefined value" } else { "these values have no such sum" };
    Err(wrong(format!("cannot write {} {operator} {}: {why}", a.kind(), b.kind())))
}

/// A class of the module: called to make a value, or asked for one of its class methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    DateTime,
    Date,
    TimeDelta,
}

impl Class {
    fn make(self, args: &[Value]) -> Result<Value, Error> {
        if self == Self::TimeDelta {
            return timedelta(args);
        }
        let (year, month, day, Rest(time), kwargs): (i32, u32, u32, Rest<u32>, Kwargs) = from_args(args)?;
        let part = |at: usize, name: &str| -> Result<u32, Error> {
            Ok(time.get(at).copied().or(kwargs.get::<Option<u32>>(name)?).unwrap_or(0))
        };
        let time = [part(0, "hour")?, part(1, "minute")?, part(2, "second")?, part(3, "microsecond")?];
        kwargs.assert_all_used()?;
        let day = NaiveDate::from_ymd_opt(year, month, day);
        let none = || wrong("there is no such date");
        if self == Self::Date {
            return Ok(Value::from_object(Moment::day(day.ok_or_else(none)?)));
        }
        let [hour, minute, second, micro] = time;
        let at = day.and_then(|day| day.and_hms_micro_opt(hour, minute, second, micro));
        Ok(Value::from_object(Moment::plain(at.ok_or_else(none)?)))
    }

    fn now(self, state: &State<'_, '_>) -> Result<Value, Error> {
        let run = state.lookup("run_started_at").ok_or_else(|| wrong("there is no clock here"))?;
        let at = run.downcast_object_ref::<Moment>().ok_or_else(|| wrong("`run_started_at` was set anew"))?.read();
        Ok(Value::from_object(if self == Self::Date { Moment::day(at.date()) } else { Moment::plain(at) }))
    }
}

fn timedelta(args: &[Value]) -> Result<Value, Error> {
    let (days, seconds, kwargs): (Option<f64>, Option<f64>, Kwargs) = from_args(args)?;
    let part =
        |name: &str, size: f64| -> Result<f64, Error> { Ok(kwargs.get::<Option<f64>>(name)?.unwrap_or(0.0) * size) };
    let total = days.unwrap_or(0.0) * 86_400.0
        + seconds.unwrap_or(0.0)
        + part("weeks", 604_800.0)?
        + part("days", 86_400.0)?
        + part("hours", 3600.0)?
        + part("minutes", 60.0)?
        + part("seconds", 1.0)?
        + part("milliseconds", 0.001)?
        + part("microseconds", 0.000_001)?;
    kwargs.assert_all_used()?;
    if !total.is_finite() || total.abs() > 1e12 {
        return Err(wrong("this timedelta is out of range"));
    }
    Ok(Value::from_object(Delta(TimeDelta::microseconds((total * 1e6).round() as i64))))
}

fn strptime(text: &str, pattern: &str) -> Result<Value, Error> {
    let chrono = pattern.replace(".%f", "%.f").replace("%f", "%6f");
    let parsed = NaiveDateTime::parse_from_str(text, &chrono).or_else(|first| {
        NaiveDate::parse_from_str(text, &chrono).map(|day| day.and_time(chrono::NaiveTime::MIN)).map_err(|_| first)
    });
    let parsed = parsed.or_else(|first| {
        // `%Y-%m` alone is the first day of the month in Python.
        let with_day = (format!("{text} 1"), format!("{chrono} %d"));
        let day = NaiveDate::parse_from_str(&with_day.0, &with_day.1);
        day.map(|day| day.and_time(chrono::NaiveTime::MIN)).map_err(|_| first)
    });
    let at = parsed.map_err(|_| wrong(format!("`{text}` does not fit the format `{pattern}`")))?;
    Ok(Value::from_object(Moment::plain(at)))
}

fn from_iso(text: &str, class: Class) -> Result<Value, Error> {
    let spaced = text.replacen('T', " ", 1);
    let with_time = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let at = with_time.iter().find_map(|pattern| NaiveDateTime::parse_from_str(&spaced, pattern).ok());
    let at = at.or_else(|| Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(chrono::NaiveTime::MIN)));
    let at = at.ok_or_else(|| wrong(format!("`{text}` is not a date in ISO format")))?;
    Ok(Value::from_object(if class == Class::Date { Moment::day(at.date()) } else { Moment::plain(at) }))
}

impl Object for Class {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        self.make(args)
    }

    fn call_method(self: &Arc<Self>, state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match (**self, method) {
            (Self::DateTime, "now" | "utcnow" | "today") | (Self::Date, "today") => self.now(state),
            (Self::DateTime, "strptime") => {
                let (text, pattern): (String, String) = from_args(args)?;
                strptime(&text, &pattern)
            }
            (Self::DateTime | Self::Date, "fromisoformat") => {
                let (text,): (String,) = from_args(args)?;
                from_iso(&text, **self)
            }
            (Self::DateTime, "fromtimestamp" | "utcfromtimestamp") => {
                let (seconds,): (i64,) = from_args(args)?;
                let at = DateTime::from_timestamp(seconds, 0).ok_or_else(|| wrong("this date is out of range"))?;
                Ok(Value::from_object(Moment::plain(at.naive_utc())))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}
