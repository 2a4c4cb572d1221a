//! A message as mail: plain text and HTML, by SMTP.

use std::fmt::Write;
use std::time::Duration;

use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Message as Mime, SmtpTransport, Transport};

use super::message::{Message, Section};
use super::words::cut;
use crate::project::{Mail, MailTls, Occasion};

/// Characters of a subject.
const SUBJECT: usize = 150;

/// Sends it.
pub(super) fn send(mail: &Mail, message: &Message, timeout: Duration) -> Result<(), String> {
    let mime = mime(mail, message)?;
    let words = |error: lettre::transport::smtp::Error| words(&error);
    let tls = || TlsParameters::new(mail.host.clone()).map_err(words);
    let tls = match mail.tls {
        MailTls::StartTls => Tls::Required(tls()?),
        MailTls::Tls => Tls::Wrapper(tls()?),
        MailTls::None => Tls::None,
    };
    let mut server = SmtpTransport::builder_dangerous(&mail.host).port(mail.port).tls(tls).timeout(Some(timeout));
    if let Some((name, word)) = &mail.login {
        server = server.credentials(Credentials::new(name.clone(), word.reveal().to_owned()));
    }
    server.build().send(&mime).map(|_| ()).map_err(words)
}

fn mime(mail: &Mail, message: &Message) -> Result<Mime, String> {
    let address = |key: &str, text: &str| {
        let wrong = |error| format!("`{text}` in `{key}` is no address of a mailbox: {error}");
        text.parse::<Mailbox>().map_err(wrong)
    };
    let mut builder = Mime::builder().from(address("from", &mail.from)?).subject(cut(&message.title, SUBJECT));
    for to in &mail.to {
        builder = builder.to(address("to", to)?);
    }
    let body = MultiPart::alternative_plain_html(message.text(), html(message));
    builder.message_id(None).multipart(body).map_err(|error| error.to_string())
}

fn html(message: &Message) -> String {
    let mut html = format!(
        "<!DOCTYPE html><html><body style=\"font-family:sans-serif;font-size:14px;color:#1f2328\"><h2 style=\"font-size:18px\">{}</h2>\
         <p style=\"color:#59636e\">{}</p>",
        escaped(&message.title),
        escaped(&message.about)
    );
    message.sections.iter().for_each(|section| of_section(section, &mut html));
    for command in &message.look {
        let _ = write!(html, "<p><code>{}</code></p>", escaped(command));
    }
    if let Some(link) = &message.link {
        let is_web = url::Url::parse(link).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        let link = escaped(link);
        let _ = match is_web {
            true => write!(html, "<p><a href=\"{link}\">{link}</a></p>"),
            false => write!(html, "<p>{link}</p>"),
        };
    }
    html.push_str("</body></html>");
    html
}

fn of_section(section: &Section, html: &mut String) {
    let color = match section.occasion {
        Some(Occasion::Failure) => "#cf222e",
        Some(Occasion::Warning | Occasion::Freshness) => "#9a6700",
        Some(Occasion::Recovery) => "#1a7f37",
        None => "#0969da",
    };
    let _ = write!(html, "<h3 style=\"font-size:15px;color:{color}\">{}</h3><ul>", section.title);
    for entry in &section.entries {
        let text = escaped(&entry.text).replace('\n', "<br>");
        let about = if entry.about.is_empty() { String::new() } else { format!(" ({})", escaped(&entry.about)) };
        let _ = write!(html, "<li style=\"margin-bottom:8px\"><b>{}</b>{about}: {text}", escaped(&entry.name));
        for line in entry.place.iter().chain(&entry.waits) {
            let _ = write!(html, "<br><span style=\"color:#59636e\">{}</span>", escaped(line));
        }
        if let Some(look) = &entry.look {
            let _ = write!(html, "<br><code>{}</code>", escaped(look));
        }
        html.push_str("</li>");
    }
    html.push_str("</ul>");
    if let Some(more) = section.more() {
        let _ = write!(html, "<p>{}</p>", escaped(&more));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// An error with what caused it, which it does not say itself.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(&format!(": {said}"));
        }
        cause = next.source();
    }
    text
}
