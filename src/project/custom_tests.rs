//! Generic tests of the project's own, as YAML uses them: `- is_even: { column: n }`.

use std::sync::Arc;

use super::data_tests::{DataTest, TestKind};
use super::models;
use super::yaml::{Mapping, Node, Reader};
use crate::diagnostics::{Diagnostic, Id};
use crate::names::{TableName, nearest};
use crate::template::{Argument, KnownNames, Templates, TestCall, TestSignature};

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

/// Renders the SQL of a custom test, now that all names are known. `false` if that failed.
pub(super) fn finish(
    test: &mut DataTest,
    templates: &Templates,
    known: &Arc<KnownNames>,
    reader: &mut Reader<'_>,
) -> bool {
    let TestKind::Custom { name, call, rendered } = &mut test.kind else { return true };
    call.filter = test.config.filter.clone();
    let scope = models::bare_scope(&test.name, &test.span.file.path, known);
    match templates.render_generic_test(name, call, scope) {
        Ok((done, recording)) => {
            reader.diagnostics.extend(templates.warnings(&done.file, &recording));
            *rendered = Some(Box::new(done));
            let sources = recording.sources.into_iter().map(|(name, _)| name);
            for read in recording.refs.into_iter().chain(sources) {
                if !test.reads.contains(&read) {
                    test.reads.push(read);
                }
            }
            true
        }
        Err(failure) => {
            let mut diagnostic = failure.diagnostic;
            let declared = test.span.clone();
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
