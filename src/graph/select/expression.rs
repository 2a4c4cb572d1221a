//! A selection as a tree: from the texts of the command line, and from `selectors.yml`.

use super::facts::Needs;
use super::term::Term;
use super::{Indirect, SelectError};
use crate::names::nearest;
use crate::project::{Definition, Project};

/// A selection that is parsed.
#[derive(Debug)]
pub(super) enum Expression {
    Term(Box<Term>),
    Union(Vec<Expression>),
    Intersection(Vec<Expression>),
    Except(Box<Expression>, Vec<Expression>),
    /// Another selection, widened along the graph.
    Widened(Box<Expression>, Box<Term>),
}

impl Expression {
    /// The union of what stands in a list and between spaces.
    pub(super) fn of_texts(project: &Project, texts: &[String]) -> Result<Self, SelectError> {
        let mut builder = Builder { project, inside: Vec::new() };
        builder.union(texts.iter().map(String::as_str))
    }

    /// A selector of `selectors.yml`.
    pub(super) fn named(project: &Project, name: &str) -> Result<Self, SelectError> {
        Builder { project, inside: Vec::new() }.named(name)
    }

    pub(super) fn needs(&self, needs: &mut Needs) {
        match self {
            Self::Term(term) => term.needs(needs),
            Self::Union(parts) | Self::Intersection(parts) => parts.iter().for_each(|part| part.needs(needs)),
            Self::Except(from, parts) => {
                from.needs(needs);
                parts.iter().for_each(|part| part.needs(needs));
            }
            Self::Widened(inner, _) => inner.needs(needs),
        }
    }
}

struct Builder<'a> {
    project: &'a Project,
    /// Selectors that are being read, each inside the one before.
    inside: Vec<String>,
}

impl Builder<'_> {
    fn union<'t>(&mut self, texts: impl Iterator<Item = &'t str>) -> Result<Expression, SelectError> {
        let parts: Vec<Expression> =
            texts.flat_map(str::split_whitespace).map(|text| self.intersection(text)).collect::<Result<_, _>>()?;
        if parts.is_empty() {
            return Err(SelectError::new("the selector is empty", None));
        }
        Ok(Expression::Union(parts))
    }

    fn intersection(&mut self, text: &str) -> Result<Expression, SelectError> {
        let parts = text.split(',').map(|part| {
            let term = Term::parse(part)?;
            self.term(term)
        });
        Ok(Expression::Intersection(parts.collect::<Result<_, _>>()?))
    }

    fn term(&mut self, term: Term) -> Result<Expression, SelectError> {
        if term.method != Some("selector") {
            return Ok(Expression::Term(Box::new(term)));
        }
        let inner = self.named(&term.value)?;
        Ok(Expression::Widened(Box::new(inner), Box::new(term)))
    }

    fn named(&mut self, name: &str) -> Result<Expression, SelectError> {
        let Some(selector) = self.project.selectors.get(name) else {
            let known = self.project.selectors.keys().map(String::as_str);
            let help = match nearest(name, known.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if self.project.selectors.is_empty() => "define it in selectors.yml".to_owned(),
                None => format!("known: {}", known.collect::<Vec<_>>().join(", ")),
            };
            return Err(SelectError::new(format!("there is no selector `{name}`"), Some(help)));
        };
        if self.inside.iter().any(|outer| outer == name) {
            let path = self.inside.join("` -> `");
            return Err(SelectError::new(
                format!("selector `{name}` is defined by itself: `{path}` -> `{name}`"),
                Some("take one of these out in selectors.yml".to_owned()),
            ));
        }
        self.inside.push(name.to_owned());
        let expression = self.definition(&selector.definition).map_err(|error| match self.inside.len() {
            1 => SelectError::new(format!("in selector `{name}` of selectors.yml: {}", error.message), error.help),
            _ => error,
        });
        self.inside.pop();
        expression
    }

    fn definition(&mut self, definition: &Definition) -> Result<Expression, SelectError> {
        let mut all = |parts: &[Definition]| parts.iter().map(|part| self.definition(part)).collect::<Result<_, _>>();
        Ok(match definition {
            Definition::Text(text) => self.union(std::iter::once(text.as_str()))?,
            Definition::Method(method) => {
                let term = Term::of_definition(method)?;
                self.term(term)?
            }
            Definition::Union(parts) => Expression::Union(all(parts)?),
            Definition::Intersection(parts) => Expression::Intersection(all(parts)?),
            Definition::Except(from, parts) => {
                let parts = all(parts)?;
                Expression::Except(Box::new(self.definition(from)?), parts)
            }
        })
    }
}

impl Term {
    /// The mode of this term, else of the command line.
    pub(super) fn mode(&self, default: Indirect) -> Indirect {
        self.indirect.unwrap_or(default)
    }
}
