//! Generic tests of the project's own, as YAML uses them: `- is_even: { column: n }`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::data_tests::{DataTest, TestKind};
use super::load::Loading;
use super::models;
use super::yaml::{Mapping, Node, Reader};
use crate::diagnostics::{Diagnostic, Id};
use crate::memo::KeyMaker;
use crate::names::{TableName, nearest};
use crate::template::{Argument, KnownNames, Rendered, TestCall, TestSignature};

/// Reads the arguments of a test; what its definition does not name, or needs and does not get, is reported.
pub(super) fn read(
    name: &str,
    signature: &TestSignature<'_>,
    table: &TableName,
    column: Option<&str>,
    arguments: &mut Mapping<'_>,
    at: &Node,
    reader: &mut Reader<'_>,
) -> Option<TestKind> {
    let mut found: Vec<(String, Argument)> = Vec::new();
    let mut own_column = column.map(str::to_owned);
    let mut is_wrong = false;
    for (key, value) in arguments.rest() {
        let key_name = key.plain_text();
        if key_name == "column_name" {
            own_column = reader.text(value);
        } else if key_name != "model" && signature.parameters.iter().any(|(known, _)| *known == key_name) {
            found.push((key_name, Argument::read(value.to_json())));
        } else {
            let known: Vec<&str> =
                signature.parameters.iter().map(|(known, _)| *known).filter(|known| *known != "model").collect();
            let mut diagnostic =
                Diagnostic::error(Id::UnknownKey, format!("test `{name}` has no argument `{key_name}`"))
                    .at(key.span.clone())
                    .related(signature.span.clone(), "defined here");
            diagnostic = match nearest(&key_name, known.iter().copied()) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic.help(format!("it takes: {}", known.join(", "))),
            };
            reader.diagnostics.push(diagnostic);
            is_wrong = true;
        }
    }
    let is_given = |name: &str| match name {
        "model" => true,
        "column_name" => own_column.is_some(),
        name => found.iter().any(|(given, _)| given == name),
    };
    for (missing, _) in signature.parameters.iter().filter(|(name, has_default)| !has_default && !is_given(name)) {
        let diagnostic = Diagnostic::error(Id::MissingKey, format!("test `{name}` needs `{missing}`"))
            .at(at.span.clone())
            .related(signature.span.clone(), "defined here");
        let help = match *missing {
            "column_name" => "write it below a column, or give `column_name`".to_owned(),
            missing => format!("write `- {name}: {{ {missing}: ... }}`"),
        };
        reader.diagnostics.push(diagnostic.help(help));
        is_wrong = true;
    }
    let call = TestCall { table: table.clone(), column: own_column, filter: None, arguments: found };
    (!is_wrong).then(|| TestKind::Custom { name: name.to_owned(), call, rendered: None })
}

/// The SQL of one use of a test.
#[derive(Serialize, Deserialize)]
struct Made {
    rendered: Box<Rendered>,
    reads: Vec<TableName>,
}

impl Made {
    fn finish(self, test: &mut DataTest) {
        if let TestKind::Custom { rendered, .. } = &mut test.kind {
            *rendered = Some(self.rendered);
        }
        for read in self.reads {
            if !test.reads.contains(&read) {
                test.reads.push(read);
            }
        }
    }
}

/// Renders the SQL of a custom test, now that all names are known. `false` if that failed.
pub(super) fn finish(
    test: &mut DataTest,
    loading: &Loading<'_>,
    known: &Arc<KnownNames>,
    reader: &mut Reader<'_>,
) -> bool {
    if let TestKind::Custom { call, .. } = &mut test.kind {
        call.filter = test.config.filter.clone();
    }
    let TestKind::Custom { name, call, .. } = &test.kind else { return true };
    // The text of its definition is part of the key of everything.
    let key = KeyMaker::new("generic test").key(loading.key).value(&*test).finish();
    if let Some(kept) = loading.kept::<Made>(Some(key), known) {
        reader.diagnostics.extend(kept.warnings);
        kept.product.finish(test);
        return true;
    }
    let scope = models::bare_scope(&test.name, &test.span.file.path, known);
    match loading.templates.render_generic_test(name, call, scope.clone()) {
        Ok((rendered, recording)) => {
            let warnings = loading.templates.warnings_of_generic_test((name, call), &rendered, &scope, &recording);
            let sources = recording.sources.iter().map(|(name, _)| name);
            let reads = recording.refs.iter().chain(sources).cloned().collect();
            let made = Made { rendered: Box::new(rendered), reads };
            let seen = [recording];
            let witnesses = loading.templates.witnesses(known, &seen);
            let (made, warnings) = loading.keep(Some(key), made, warnings, &seen, witnesses);
            reader.diagnostics.extend(warnings);
            made.finish(test);
            true
        }
        Err(failure) => {
            let mut diagnostic = failure.diagnostic;
            let declared = (*test.span).clone();
            if failure.is_before {
                diagnostic =
                    Diagnostic { help: diagnostic.help, ..Diagnostic::error(diagnostic.id, diagnostic.message) };
                diagnostic = diagnostic.at(declared);
            } else {
                diagnostic = diagnostic.related(declared, "used here");
            }
            reader.diagnostics.push(diagnostic);
            false
        }
    }
}
