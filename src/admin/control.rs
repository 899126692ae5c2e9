//! Orders: `POST /backends/ROUTE/ADDRESS/drain`, `down` or `ready`.

use super::server::Answer;
use super::view::View;
use crate::balance::backend::Standing;

/// What the paths of orders begin with.
pub(super) const PREFIX: &str = "/backends/";

/// Does what a path says. ROUTE is the route's name, ADDRESS the backend as the status page has it or as the file does, which
/// may be several; `/` in either may be percent-encoded.
pub(super) fn obey(path: &str, view: &View) -> Answer {
    let Some((route_name, addr, standing)) = parse(path) else {
        return Answer::text(404, "POST /backends/ROUTE/ADDRESS/drain, down or ready");
    };
    let snapshot = view.snapshot();
    let Some(route) = snapshot.routes().find(|route| route.label() == route_name) else {
        let names: Vec<&str> = snapshot.routes().map(|route| route.label()).collect();
        return Answer::text(
            404,
            format!("no route is called {route_name:?}; there are: {}", names.join(", ")),
        );
    };
    let is_meant = |label: &str, entry: String| label == addr || entry == addr;
    let backends: Vec<_> = route
        .backends()
        .into_iter()
        .filter(|backend| is_meant(backend.label(), backend.config().addr.to_string()))
        .collect();
    if backends.is_empty() {
        let all = route.backends();
        let labels: Vec<&str> = all.iter().map(|backend| backend.label()).collect();
        return Answer::text(404, format!("no backend is called {addr:?}; there are: {}", labels.join(", ")));
    }
    let mut told = Vec::new();
    for backend in &backends {
        let was = backend.set_standing(standing);
        let (word, label) = (standing.word(), backend.label());
        log::info!(
            "backend ordered {word} route={route_name} backend={label} was={} in_flight={}",
            was.word(),
            backend.in_flight()
        );
        told.push(format!("{label} {word}, {} in flight", backend.in_flight()));
    }
    route.health_changed();
    Answer::text(200, told.join("\n"))
}

fn parse(path: &str) -> Option<(String, String, Standing)> {
    let (rest, order) = path.strip_prefix(PREFIX)?.rsplit_once('/')?;
    let (route, addr) = rest.rsplit_once('/')?;
    let standing = [Standing::Ready, Standing::Drain, Standing::Down]
        .into_iter()
        .find(|standing| standing.word() == order)?;
    Some((decoded(route)?, decoded(addr)?, standing))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        rest = others;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, others @ ..] = rest else { return None };
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
        rest = others;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_a_route_and_a_backend() {
        for (path, route, addr) in [
            ("/backends/shop/127.0.0.1:8001/drain", "shop", "127.0.0.1:8001"),
            ("/backends/%2Fapi/127.0.0.1:8001/drain", "/api", "127.0.0.1:8001"),
            ("/backends//api/127.0.0.1:8001/drain", "/api", "127.0.0.1:8001"),
            ("/backends/shop.example/api/unix:%2Frun%2Fa.sock/drain", "shop.example/api", "unix:/run/a.sock"),
        ] {
            assert_eq!(parse(path), Some((route.to_owned(), addr.to_owned(), Standing::Drain)), "{path}");
        }
    }

    #[test]
    fn what_is_no_order_is_none() {
        for path in [
            "/backends/",
            "/backends/shop/drain",
            "/backends/shop/a/stop",
            "/backends/%zz/a/drain",
            "/backends/a/%f",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
    }
}
