//! Generic tests that a project defines: `{% test name(model, column_name, ...) %}...{% endtest %}`.
//!
//! The body is rendered as a template of its own, with the arguments as variables, so that a mistake in its SQL is
//! shown at its own line.

use minijinja::Value;
use minijinja::value::Serde;

use super::rewrite;
use super::scope::{Recording, Scope};
use super::{Body, Failure, Rendered, Subject, Templates, Trace, functions, macros};
use crate::diagnostics::Span;
use crate::names::TableName;

/// What a generic test takes.
#[derive(Debug)]
pub struct TestSignature<'a> {
    /// Its parameters, with whether one can be left out. `model` and `column_name` are among them.
    pub parameters: Vec<(&'a str, bool)>,
    /// Where it is defined.
    pub span: Span,
}

/// One use of a generic test.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct TestCall {
    /// `model`.
    pub table: TableName,
    /// `column_name`, for the test of a column.
    pub column: Option<String>,
    /// The rows of `model` to look at.
    pub filter: Option<String>,
    /// All others.
    pub arguments: Vec<(String, Argument)>,
}

/// An argument as YAML gives it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum Argument {
    /// A value as it stands.
    Value(serde_json::Value),
    /// Jinja: `ref('model')`, or what stands in `{{ }}`.
    Expression(String),
}

impl Argument {
    /// What dbt makes of a value: texts that are Jinja are evaluated.
    pub fn read(value: serde_json::Value) -> Self {
        let Some(text) = value.as_str().map(str::trim) else { return Self::Value(value) };
        let inner = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        let is_call = text.ends_with(')') && (text.starts_with("ref(") || text.starts_with("source("));
        match inner {
            Some(expression) if !expression.contains("}}") => Self::Expression(expression.trim().to_owned()),
            _ if is_call => Self::Expression(text.to_owned()),
            _ => Self::Value(value),
        }
    }
}

impl Templates {
    /// What a generic test of the project takes; `None` if there is no such test.
    pub fn generic_test(&self, name: &str) -> Option<TestSignature<'_>> {
        let test = self.library.test(name)?;
        let parameters = test.definition.parameters.iter();
        let name = &test.definition.name_range;
        Some(TestSignature {
            parameters: parameters.map(|p| (p.name.as_str(), p.default.is_some())).collect(),
            span: Span::new(&test.file, name.start, name.end),
        })
    }

    /// The names of the generic tests of the project.
    pub fn generic_test_names(&self) -> impl Iterator<Item = &str> {
        self.library.test_names()
    }

    /// Renders one use of a generic test, which exists.
    ///
    /// # Errors
    /// The first mistake; [`Failure::is_before`] if it is in an argument.
    pub fn render_generic_test(
        &self,
        name: &str,
        call: &TestCall,
        scope: Scope,
    ) -> Result<(Rendered, Recording), Box<Failure>> {
        self.render_subject(Subject::Test(name, call), scope, &self.clock())
    }

    /// Finds out who wrote each byte of what [`Templates::render_generic_test`] made in this `scope`.
    pub fn trace_generic_test(&self, name: &str, call: &TestCall, rendered: &Rendered, scope: Scope) -> Trace {
        self.trace_subject(Subject::Test(name, call), rendered, scope)
    }

    /// The body of a test, with its arguments as variables, and before it those that are Jinja themselves.
    pub(super) fn test_body<'a>(&'a self, name: &str, call: &TestCall) -> Body<'a> {
        let test = self.library.test(name).expect("the caller has its signature");
        let relation = functions::relation(&call.table);
        let model = match &call.filter {
            Some(filter) => Value::from(format!("(select * from {relation} where {filter}) as dbt_subquery")),
            None => relation,
        };
        let mut variables = vec![("model".to_owned(), model)];
        variables.extend(call.column.iter().map(|column| ("column_name".to_owned(), Value::from(column.as_str()))));
        let mut settings = String::new();
        for (name, argument) in &call.arguments {
            match argument {
                Argument::Value(value) => variables.push((name.clone(), Value::from(Serde(value)))),
                Argument::Expression(expression) => settings.push_str(&format!("{{% set {name} = ({expression}) %}}")),
            }
        }
        for parameter in &test.definition.parameters {
            let is_given = call.arguments.iter().any(|(name, _)| *name == parameter.name)
                || variables.iter().any(|(name, _)| *name == parameter.name);
            if let Some(default) = parameter.default.clone().filter(|_| !is_given) {
                settings.push_str(&format!("{{% set {} = ({}) %}}", parameter.name, &test.file.text()[default]));
            }
        }
        Body {
            name: format!("{}{}", macros::TEST, test.file.path),
            file: &test.file,
            rewritten: rewrite::test_body(test.file.text(), &test.definition),
            settings,
            arguments: Value::from_pairs(variables),
        }
    }
}
