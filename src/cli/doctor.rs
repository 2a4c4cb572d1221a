//! `lake doctor`: what is wrong with project and lake, and how to mend it.

use std::sync::Arc;

use super::args::Global;
use super::printer::{Paint, Printer};
use super::{ExitStatus, Pipeline};
use crate::run::{self, Finding, Health, Inputs};
use crate::tables;
use crate::words::plural;

pub(super) fn run(global: &Global, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let (runtime, async_runtime) = compiled.into_runtime()?;
    let inputs = Inputs::new(Arc::clone(&runtime));
    let models = plural(runtime.project.models.len() as u64, "model");
    let compiles = Finding {
        subject: "project".to_owned(),
        health: Health::Ok,
        message: format!("`{}` compiles: {models}, target `{}`", runtime.project.name, runtime.project.target.name),
        mend: None,
    };
    let mut findings = vec![compiles];
    findings.extend(async_runtime.block_on(run::examine(&inputs)));
    let worst = findings.iter().map(|finding| finding.health).max().unwrap_or(Health::Ok);
    if printer.is_json() {
        printer.json(&serde_json::json!({"versions": versions(), "health": worst, "findings": findings}));
    } else {
        print(&findings, printer);
    }
    Ok(if worst == Health::Error { ExitStatus::Failed } else { ExitStatus::Fine })
}

fn versions() -> serde_json::Value {
    serde_json::json!({
        "lake": env!("CARGO_PKG_VERSION"),
        "datafusion": datafusion::DATAFUSION_VERSION,
        "deltalake": tables::delta_version(),
        "os": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
    })
}

fn print(findings: &[Finding], printer: &Printer) {
    let versions = versions();
    let word = |name: &str| versions[name].as_str().unwrap_or_default().to_owned();
    printer.note(&format!(
        "lake {}, DataFusion {}, deltalake {}, {} {}",
        word("lake"),
        word("datafusion"),
        word("deltalake"),
        word("os"),
        word("architecture")
    ));
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or_default();
    for finding in findings {
        let (paint, word) = match finding.health {
            Health::Ok => (Paint::Green, "ok"),
            Health::Warn => (Paint::Yellow, "warn"),
            Health::Error => (Paint::Red, "error"),
        };
        let word = printer.paint(paint, &format!("{word:<5}"));
        printer.result(&format!("{word}  {:<width$}  {}", finding.subject, finding.message));
        if let Some(mend) = &finding.mend {
            printer.result(&printer.paint(Paint::Dim, &format!("{:>width$}-> {mend}", "", width = width + 9)));
        }
    }
    let count = |health: Health| findings.iter().filter(|finding| finding.health == health).count() as u64;
    printer.note(&match (count(Health::Error), count(Health::Warn)) {
        (0, 0) => "all is well".to_owned(),
        (errors, warnings) => format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")),
    });
}
