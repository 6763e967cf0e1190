//! Routes and servers of this node's gateway, and the switches.

use crate::View;
use crate::layout::{figure, plain, table};
use crate::text::{bytes, count};
use maud::{Markup, PreEscaped, html};
use traffic::degrade::Level;
use traffic::report::{GatewayReport, RouteReport, ServerReport};

const SCRIPT: &str = include_str!("gateway.js");

pub fn body(view: &View<'_>) -> Markup {
    let Some(gateway) = view.gateway else {
        return html! {
            h1 { "Gateway" }
            p.empty { "This node has no gateway: name a file of routes as " code { "gateway.routes" } " in its configuration." }
        };
    };
    let routes: Vec<Vec<Markup>> = gateway.routes.iter().map(route).collect();
    let servers: Vec<Vec<Markup>> = (gateway.upstreams.iter())
        .flat_map(|upstream| {
            (upstream.servers.iter()).map(|s| server(&upstream.name, &upstream.balance, s))
        })
        .collect();
    html! {
        h1 { "Gateway" }
        @if !gateway.refused.is_empty() {
            p.notice { strong { "The file of routes was not taken" } "; the former one is in use. " (gateway.refused) }
        }
        div.figures {
            (figure("Listens on", &gateway.address, &format!("{} connections", count(gateway.connections))))
            (figure("Requests", format!("{:.1}/s", gateway.routes.iter().map(|r| r.rate).sum::<f64>()), "over ten seconds"))
            (figure("Alarms", count(alarms(gateway)), "of all routes"))
            (figure("Cache", bytes(gateway.cache_bytes), &format!("{} answers", count(gateway.cache_entries))))
        }
        h2 { "Routes" }
        (table(
            &[
                ("Route", false), ("For", false), ("Servers", false), ("Traffic", true), ("Errors", true), ("Refused", true),
                ("Median", true), ("99 %", true), ("Saturation", true), ("Level", false), ("Switch", false), ("Alarms", false),
            ],
            &routes,
            "The file has no routes.",
        ))
        h2 { "Switches" }
        p { "A switch is of a route, and is set on all nodes. " code { "on" } ": its fallback answers. " code { "off" } ": it does not, whatever is measured. " code { "auto" } ": the level decides." }
        form #switch {
            select name="name" aria-label="route" {
                @for route in &gateway.routes { option value=(route.name) { (route.name) } }
            }
            select name="value" aria-label="value" {
                @for value in ["on", "off", "auto"] { option value=(value) { (value) } }
                @for level in Level::ALL { option value=(level.name()) { (level.name()) } }
            }
            button { "Set" }
            span #said .dim {}
        }
        noscript { p.empty { "Without scripts: " code { "althing switch set ROUTE on" } } }
        h2 { "Servers" }
        (table(
            &[
                ("Group", false), ("Balancing", false), ("Server", false), ("Weight", true), ("Health", false), ("Breaker", false),
                ("Opened", true), ("In flight", true), ("Requests", true), ("Errors", true),
            ],
            &servers,
            "There are no servers.",
        ))
        p.dim { "Routes of " code { (gateway.file) } ", taken " (count(gateway.loads)) " times since the start." }
        script { (PreEscaped(SCRIPT)) }
    }
}

fn alarms(gateway: &GatewayReport) -> u64 {
    let raised = gateway.routes.iter().flat_map(|route| route.alarms.named());
    raised.filter(|(_, is_raised)| *is_raised).count() as u64
}

fn ms(us: u64) -> String {
    match us {
        0 => "–".into(),
        us => format!("< {:.1} ms", us as f64 / 1_000.0),
    }
}

fn route(route: &RouteReport) -> Vec<Markup> {
    let raised: Vec<&str> = (route.alarms.named().into_iter())
        .filter_map(|(name, is_raised)| is_raised.then_some(name))
        .collect();
    vec![
        html! { strong { (route.name) } },
        html! { code { (route.matches) } },
        plain(&route.upstream),
        plain(format!("{:.1}/s", route.rate)),
        plain(count(route.errors)),
        plain(count(route.refused)),
        plain(ms(route.p50_us)),
        plain(ms(route.p99_us)),
        plain(format!("{:.0} %", route.saturation * 100.0)),
        html! {
            span.pill.good[route.level <= Level::General].warn[route.level == Level::Warning].bad[route.level >= Level::Error] {
                (route.level.name())
            }
            @if route.degraded { " " span.pill.warn { "fallback" } }
        },
        plain(&route.switch),
        html! {
            @if raised.is_empty() { span.dim { "–" } }
            @for name in raised { span.pill.bad { (name) } " " }
        },
    ]
}

fn server(group: &str, balance: &str, server: &ServerReport) -> Vec<Markup> {
    let is_good = server.health == "healthy";
    let is_closed = matches!(server.breaker.as_str(), "closed" | "none");
    vec![
        plain(group),
        plain(balance),
        html! { code { (server.address) } },
        plain(count(server.weight.into())),
        html! { span.pill.good[is_good].bad[!is_good] { (server.health) } },
        html! { span.pill.good[is_closed].warn[!is_closed] { (server.breaker) } },
        plain(count(server.opened)),
        plain(count(server.in_flight)),
        plain(count(server.requests)),
        plain(count(server.errors)),
    ]
}
