//! `lake explain`: what a diagnostic means.

use super::ExitStatus;
use super::printer::Printer;
use crate::diagnostics::Id;
use crate::graph::SelectError;
use crate::names::nearest;

pub(super) fn run(code: Option<&str>, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Some(code) = code else {
        Id::all().for_each(|(code, name)| printer.result(&format!("{code}  {name}")));
        return Ok(ExitStatus::Fine);
    };
    let Some(id) = Id::find(code) else {
        let known = Id::all().flat_map(|(code, name)| [code, name]);
        let help = nearest(code, known).map(|near| format!("did you mean `{near}`?"));
        let help = help.or_else(|| Some("`lake explain` lists all codes".to_owned()));
        return Err(SelectError { message: format!("there is no diagnostic `{code}`"), help }.into());
    };
    if printer.is_json() {
        printer.json(&serde_json::json!({"code": id.code(), "id": id.name(), "page": id.page()}));
    } else {
        printer.result(id.page());
    }
    Ok(ExitStatus::Fine)
}
