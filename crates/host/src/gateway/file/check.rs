//! What concerns several values of the file of routes at once.

use super::*;

/// Most routes, and most servers of all groups together.
const ROUTES_MAX: usize = 1_000;
const SERVERS_MAX: usize = 1_000;

pub(super) fn check(text: &str, plan: &Plan) -> Result<(), String> {
    if plan.connections_max == 0 {
        return Err("connections_max must be at least 1".into());
    }
    let servers: usize = plan.upstreams.values().map(|u| u.servers.len()).sum();
    if plan.routes.len() > ROUTES_MAX || servers > SERVERS_MAX {
        return Err(format!(
            "at most {ROUTES_MAX} routes and {SERVERS_MAX} servers are held"
        ));
    }
    for (name, upstream) in &plan.upstreams {
        check_upstream(upstream).map_err(|why| format!("upstreams.{name}: {why}"))?;
    }
    let mut names = std::collections::BTreeSet::new();
    for route in &plan.routes {
        let at = Some(route.upstream.span().start);
        let fault = |why: &str| at_line(text, at, &format!("route {:?}: {why}", route.name));
        let has = |name: &str| plan.upstreams.contains_key(name);
        let known: Vec<&str> = plan.upstreams.keys().map(String::as_str).collect();
        let missing = |name: &str| {
            fault(&format!(
                "there is no [upstreams.{name}]; there are {}",
                known.join(", ")
            ))
        };
        if !has(route.upstream.get_ref()) {
            return Err(missing(route.upstream.get_ref()));
        }
        for step in &route.fallback {
            match step {
                FallbackPlan::Upstream(step) if !has(&step.upstream) => {
                    return Err(missing(&step.upstream));
                }
                FallbackPlan::Cache(_) if !route.cache => {
                    return Err(fault("a fallback to the cache needs cache = true"));
                }
                FallbackPlan::Cache(step) if !step.cache => {
                    return Err(fault("cache = false is no fallback: remove it"));
                }
                FallbackPlan::Page(page) => check_page(page).map_err(|why| fault(&why))?,
                _ => {}
            }
        }
        check_route(route).map_err(|why| fault(&why))?;
        if !names.insert(&route.name) {
            return Err(fault("another route has this name"));
        }
    }
    Ok(())
}

fn check_upstream(upstream: &UpstreamPlan) -> Result<(), String> {
    if upstream.servers.is_empty() {
        return Err("servers must name at least one \"host:port\"".into());
    }
    for server in &upstream.servers {
        let port = (server.address().rsplit_once(':')).map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            return Err(format!(
                "the server {:?} is not of the form host:port",
                server.address()
            ));
        }
        if !(1..=1_000).contains(&server.weight()) {
            return Err(format!(
                "the weight {} is not from 1 to 1000",
                server.weight()
            ));
        }
    }
    let mut addresses: Vec<&str> = upstream.servers.iter().map(ServerPlan::address).collect();
    addresses.sort_unstable();
    if let Some(twice) = addresses.windows(2).find(|two| two[0] == two[1]) {
        return Err(format!("the server {:?} stands there twice", twice[0]));
    }
    if upstream.in_flight_max == 0 {
        return Err("in_flight_max must be at least 1".into());
    }
    let percents = [
        ("ejected_percent_max", upstream.health.ejected_percent_max),
        ("panic_percent", upstream.health.panic_percent),
    ];
    for (name, percent) in percents {
        if percent.is_some_and(|percent| percent > 100) {
            return Err(format!("health.{name} is more than 100"));
        }
    }
    match &upstream.health.path {
        Some(path) if !path.starts_with('/') || path.parse::<hyper::Uri>().is_err() => {
            Err(format!("health.path = {path:?} is no path"))
        }
        _ => Ok(()),
    }
}

fn check_page(page: &PageFallback) -> Result<(), String> {
    if !(200..=599).contains(&page.status) || StatusCode::from_u16(page.status).is_err() {
        return Err(format!(
            "the fallback's status {} is not from 200 to 599",
            page.status
        ));
    }
    match HeaderValue::from_str(&page.content_type) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{:?} is no content type", page.content_type)),
    }
}

fn check_route(route: &RoutePlan) -> Result<(), String> {
    let letters = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if route.name.is_empty() || route.name.len() > 100 || !route.name.chars().all(letters) {
        return Err("a name has 1 to 100 letters, digits, '-', '_' or '.'".into());
    }
    for (key, path) in [
        ("path", Some(&route.path)),
        ("rewrite", route.rewrite.as_ref()),
    ] {
        if let Some(path) = path
            && (!path.starts_with('/')
                || path.parse::<hyper::Uri>().is_err()
                || path.contains(['?', '#']))
        {
            return Err(format!(
                "{key} = {path:?} is no path: it begins with / and has no query"
            ));
        }
    }
    if route.in_flight_max == 0 {
        return Err("in_flight_max must be at least 1".into());
    }
    if let Some(auth) = &route.auth
        && auth.basic.is_empty()
        && auth.bearer.is_empty()
    {
        return Err("auth lets nobody in: name users under basic, or tokens under bearer".into());
    }
    if let Some(retry) = &route.retry
        && (!(0.0..=100.0).contains(&retry.budget_percent)
            || !(0.0..=1e6).contains(&retry.budget_min_per_s)
            || retry.times > 10)
    {
        return Err(
            "retry.times is at most 10, budget_percent from 0 to 100, budget_min_per_s not below 0"
                .into(),
        );
    }
    for limit in &route.limits {
        let wrong = match limit {
            LimitPlan::TokenBucket { burst, .. } => {
                burst.is_some_and(|b| !(1.0..=1e9).contains(&b))
            }
            LimitPlan::LeakyBucket { depth, .. } => !(1.0..=1e6).contains(depth),
            LimitPlan::WarmUp { cold_factor, .. } => {
                cold_factor.is_some_and(|f| !(f > 1.0 && f <= 1_000.0))
            }
            LimitPlan::UniformQueue { .. } => false,
        };
        if wrong {
            return Err(
                "burst and depth are at least 1, cold_factor is above 1 (and at most 1000)".into(),
            );
        }
    }
    Ok(())
}

pub(super) fn describe(message: &str) -> String {
    match message.strip_prefix("unknown field `") {
        Some(rest) => {
            let (wrong, known) = rest.split_once('`').unwrap_or((rest, ""));
            let known = known.trim_start_matches(", ").replace('`', "");
            format!("there is no key `{wrong}` here: {known}")
        }
        None => message.trim().to_owned(),
    }
}

pub(super) fn at_line(text: &str, start: Option<usize>, message: &str) -> String {
    let Some(start) = start else {
        return message.to_owned();
    };
    let number = text[..start.min(text.len())].matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default();
    format!("line {number}: {message}\n    {}", line.trim_end())
}
