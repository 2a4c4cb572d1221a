//! dbt's Jinja as minijinja reads it, and the way back to the user's bytes.
//!
//! Three things of dbt's dialect cannot be had by functions alone, so a template's tags are rewritten before they are
//! parsed. Raw text is never touched, so what it renders to keeps its place.
//!
//! - A macro is defined under a name of its own (`cents` as `native__cents`), so that every call goes through
//!   [`super::calls`], which gives `return()`, `varargs` and packages their meaning.
//! - A macro whose body says `varargs` or `kwargs` gets parameters of these names.
//! - Where lists and dicts are changed in place (`xs.append(1)`), their literals become objects that can change. Where
//!   dates are moved by a `timedelta`, sums become calls.

use super::tags::{Definition, DefinitionKind, Tag, Token, TokenKind, definitions, tags, tokens};

/// What stands before a macro's name for minijinja.
pub(super) const NATIVE: &str = "native__";

/// Methods of Python that change a list or dict in place.
const MUTATIONS: &[&str] = &[
    ".append(",
    ".extend(",
    ".insert(",
    ".pop(",
    ".popitem(",
    ".remove(",
    ".update(",
    ".setdefault(",
    ".clear(",
    ".reverse(",
    ".sort(",
    ".add(",
];

/// A rewritten text.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    pub(super) text: String,
    /// Where each copied or inserted run starts in the text, where that is in the file, and whether it is copied.
    runs: Vec<(usize, usize, bool)>,
}

impl Rewritten {
    /// The offset in the user's file.
    pub(super) fn original(&self, offset: usize) -> usize {
        let at = self.runs.partition_point(|(start, _, _)| *start <= offset).saturating_sub(1);
        match self.runs.get(at) {
            Some((start, file, true)) => file + (offset - start),
            Some((_, file, false)) => *file,
            None => offset,
        }
    }

    fn copy(&mut self, file: &str, from: usize, to: usize) {
        if from < to {
            self.runs.push((self.text.len(), from, true));
            self.text.push_str(&file[from..to]);
        }
    }

    fn insert(&mut self, at: usize, text: &str) {
        self.runs.push((self.text.len(), at, false));
        self.text.push_str(text);
    }
}

/// One change of a text: what stands between `start` and `end` becomes `with`.
#[derive(Debug)]
struct Edit {
    start: usize,
    end: usize,
    with: String,
    order: Order,
}

/// Which of several changes at one place comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    CloseLiteral,
    Sum,
    OpenSum,
    OpenLiteral,
}

impl Edit {
    fn insert(at: usize, with: impl Into<String>, order: Order) -> Self {
        Self { start: at, end: at, with: with.into(), order }
    }
}

fn apply(text: &str, from: usize, to: usize, mut edits: Vec<Edit>) -> Rewritten {
    edits.sort_by_key(|edit| (edit.start, edit.order));
    let mut rewritten = Rewritten::default();
    let mut at = from;
    for edit in edits.iter().filter(|edit| from <= edit.start && edit.end <= to) {
        if edit.start < at {
            continue;
        }
        rewritten.copy(text, at, edit.start);
        rewritten.insert(edit.start, &edit.with);
        at = edit.end;
    }
    rewritten.copy(text, at, to);
    rewritten
}

/// A file of macros: its macros under their own names, without its generic tests.
pub(super) fn macro_file(text: &str) -> Rewritten {
    let mut edits = Vec::new();
    for definition in definitions(text) {
        match definition.kind {
            DefinitionKind::Test => {
                let (start, end) = (definition.start, definition.end);
                edits.push(Edit { start, end, with: String::new(), order: Order::Sum });
            }
            DefinitionKind::Macro => {
                edits.push(Edit::insert(definition.name_range.start, NATIVE, Order::Sum));
                edits.extend(extra_parameters(&definition));
            }
        }
    }
    edits.extend(expression_edits(text, &tags(text)));
    apply(text, 0, text.len(), edits)
}

/// A model, a singular test or an inline query.
pub(super) fn template(text: &str) -> Rewritten {
    // Most templates need no change, and no scan.
    if !changes_values(text) && !moves_dates(text) {
        return Rewritten { text: text.to_owned(), runs: Vec::new() };
    }
    apply(text, 0, text.len(), expression_edits(text, &tags(text)))
}

/// The body of a generic test, as a template of its own.
pub(super) fn test_body(text: &str, definition: &Definition) -> Rewritten {
    let edits = expression_edits(text, &tags(text));
    apply(text, definition.body.start, definition.body.end, edits)
}

fn extra_parameters(definition: &Definition) -> Option<Edit> {
    let mut extra = Vec::new();
    for (name, default, is_used) in
        [("varargs", "[]", definition.takes_varargs), ("kwargs", "{}", definition.takes_kwargs)]
    {
        if is_used && definition.parameters.iter().all(|parameter| parameter.name != name) {
            extra.push(format!("{name}={default}"));
        }
    }
    if extra.is_empty() {
        return None;
    }
    let comma = if definition.parameters.is_empty() || definition.trailing_comma { "" } else { ", " };
    let at = definition.close_paren;
    Some(Edit::insert(at, format!("{comma}{}", extra.join(", ")), Order::Sum))
}

fn changes_values(text: &str) -> bool {
    MUTATIONS.iter().any(|method| text.contains(method))
}

fn moves_dates(text: &str) -> bool {
    text.contains("timedelta") || text.contains("modules.datetime")
}

fn expression_edits(text: &str, tags: &[Tag]) -> Vec<Edit> {
    let (mutable, dates) = (changes_values(text), moves_dates(text));
    let mut edits = Vec::new();
    if !mutable && !dates {
        return edits;
    }
    for tag in tags {
        let tokens = tokens(text, tag.inner.clone());
        // Parameters of a macro are no expression; their defaults are made anew by the call.
        if tag.is_block && matches!(tokens.first().map(|token| token.text(text)), Some("macro" | "test" | "call")) {
            continue;
        }
        if mutable {
            edits.extend(literal_edits(text, &tokens));
        }
        if dates {
            sums(text, &tokens, &mut edits);
        }
    }
    edits
}

/// `[1]` -> `__list([1])`, `{'a': 1}` -> `__dict({'a': 1})`.
fn literal_edits(text: &str, tokens: &[Token]) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut open: Vec<bool> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let previous = at.checked_sub(1).map(|at| &tokens[at]);
        match token.text(text) {
            bracket @ ("[" | "{") => {
                let is_literal = bracket == "{" || !previous.is_some_and(|previous| ends_operand(previous, text));
                if is_literal {
                    let with = if bracket == "[" { "__list(" } else { "__dict(" };
                    edits.push(Edit::insert(token.start, with, Order::OpenLiteral));
                }
                open.push(is_literal);
            }
            "]" | "}" if open.pop() == Some(true) => {
                edits.push(Edit::insert(token.end, ")", Order::CloseLiteral));
            }
            _ => {}
        }
    }
    edits
}

/// Whether an operand ends with this token, so that a bracket or a minus after it is no beginning.
fn ends_operand(token: &Token, text: &str) -> bool {
    match token.kind {
        TokenKind::Word => !matches!(
            token.text(text),
            "in" | "if" | "elif" | "else" | "and" | "or" | "not" | "is" | "for" | "set" | "do" | "with" | "call"
        ),
        TokenKind::Text | TokenKind::Number => true,
        TokenKind::Sign => matches!(token.text(text), ")" | "]" | "}"),
    }
}

/// `a + b - c` -> `__subtract(__add(a, b), c)`, in every pair of brackets on its own. Only what binds weaker than a sum
/// ends one.
fn sums(text: &str, tokens: &[Token], edits: &mut Vec<Edit>) {
    let mut chain: Chain = Chain::default();
    let mut outer: Vec<Chain> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let previous = at.checked_sub(1).map(|at| &tokens[at]);
        let is_binary = previous.is_some_and(|previous| ends_operand(previous, text));
        match token.text(text) {
            "(" | "[" | "{" => {
                chain.begin(token);
                outer.push(std::mem::take(&mut chain));
            }
            ")" | "]" | "}" => {
                chain.finish(previous, edits);
                chain = outer.pop().unwrap_or_default();
            }
            sign @ ("+" | "-") if is_binary => chain.operator(sign, token, previous),
            "," | "=" | ":" | "==" | "!=" | "<" | ">" | "<=" | ">=" | "in" | "if" | "elif" | "else" | "and" | "or"
            | "not" | "is" | "for" | "set" | "do" => {
                chain.finish(previous, edits);
                chain = Chain::default();
            }
            _ => chain.begin(token),
        }
    }
    chain.finish(tokens.last(), edits);
}

/// A sum while its tokens are read.
#[derive(Debug, Default)]
struct Chain {
    start: Option<usize>,
    /// Function, and the range of the operator.
    operators: Vec<(&'static str, usize, usize)>,
}

impl Chain {
    fn begin(&mut self, token: &Token) {
        self.start.get_or_insert(token.start);
    }

    fn operator(&mut self, sign: &str, token: &Token, previous: Option<&Token>) {
        let function = if sign == "+" { "__add(" } else { "__subtract(" };
        self.operators.push((function, previous.map_or(token.start, |previous| previous.end), token.end));
    }

    fn finish(&mut self, last: Option<&Token>, edits: &mut Vec<Edit>) {
        let (Some(start), Some(last)) = (self.start, last) else { return };
        if self.operators.is_empty() {
            return;
        }
        let calls: String = self.operators.iter().rev().map(|(function, _, _)| *function).collect();
        edits.push(Edit::insert(start, calls, Order::OpenSum));
        for (number, (_, from, to)) in self.operators.iter().enumerate() {
            let with = if number == 0 { "," } else { ")," };
            edits.push(Edit { start: *from, end: *to, with: with.to_owned(), order: Order::Sum });
        }
        edits.push(Edit::insert(last.end, ")", Order::Sum));
        self.operators.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_get_a_name_of_their_own_and_the_parameters_they_use() {
        let text = "{% macro a(x, y=')') -%} {{ varargs }} {%- endmacro %}{% macro b() %}{{ kwargs.k }}{% endmacro %}";
        let rewritten = macro_file(text);
        assert_eq!(
            rewritten.text,
            "{% macro native__a(x, y=')', varargs=[]) -%} {{ varargs }} {%- endmacro %}{% macro native__b(kwargs={}) %}{{ kwargs.k }}{% endmacro %}"
        );
        let at = rewritten.text.find("{{ kwargs").unwrap();
        assert_eq!(&text[rewritten.original(at)..][..9], "{{ kwargs");
    }

    #[test]
    fn literals_become_objects_where_something_changes_them() {
        let text = "{% set xs = [[1], d['k']] %}{% do xs.append({'a': 1}) %} select a[1]";
        assert_eq!(
            template(text).text,
            "{% set xs = __list([__list([1]), d['k']]) %}{% do xs.append(__dict({'a': 1})) %} select a[1]"
        );
        assert_eq!(template("{% set xs = [1] %}").text, "{% set xs = [1] %}");
    }

    #[test]
    fn both_can_stand_at_one_place() {
        let text = "{# timedelta x.append() #}{% set xs = [1 + 2] + [3] %}";
        let expected = "{# timedelta x.append() #}{% set xs = __add(__list([__add(1, 2)]), __list([3])) %}";
        assert_eq!(template(text).text, expected);
    }

    #[test]
    fn sums_become_calls_where_dates_are_moved() {
        let text = "{{ (a - modules.datetime.timedelta(days=1 + 2)).strftime('%Y') ~ -1 }}";
        assert_eq!(
            template(text).text,
            "{{ (__subtract(a, modules.datetime.timedelta(days=__add(1, 2)))).strftime('%Y') ~ -1 }}"
        );
        let text = "{# timedelta #}{{ a + b * 2 - c if x - 1 > 0 else y }}";
        assert_eq!(
            template(text).text,
            "{# timedelta #}{{ __subtract(__add(a, b * 2), c) if __subtract(x, 1) > 0 else y }}"
        );
    }
}
