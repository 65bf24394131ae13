//! A change of typed values, carried over to the JSON that they were read from.

use serde_json::Value;

/// Brings `target` from `before` to `after`, which are what the typed value was and is.
///
/// What `before` and `after` agree on stays in `target` as it is, whatever its spelling; so does what neither has.
pub(super) fn merge(target: &mut Value, before: &Value, after: &Value) {
    if before == after {
        return;
    }
    match (target, before, after) {
        (Value::Object(target), Value::Object(before), Value::Object(after)) => {
            target.retain(|name, _| after.contains_key(name) || !before.contains_key(name));
            for (name, new) in after {
                match (target.get_mut(name), before.get(name)) {
                    (Some(old), Some(was)) => merge(old, was, new),
                    // The type writes a default that the object left out: that is no change.
                    (None, Some(was)) if was == new => {}
                    _ => {
                        target.insert(name.clone(), new.clone());
                    }
                }
            }
        }
        (Value::Array(target), Value::Array(before), Value::Array(after))
            if target.len() == before.len() =>
        {
            *target = elements(std::mem::take(target), before, after);
        }
        (target, _, after) => *target = after.clone(),
    }
}

/// The elements of a list: equal ones are found again wherever they went; of the others, each new one takes over from
/// the old one in the same gap between equal ones.
fn elements(target: Vec<Value>, before: &[Value], after: &[Value]) -> Vec<Value> {
    let mut old: Vec<Option<Value>> = target.into_iter().map(Some).collect();
    let origin = origins(before, after);
    let moved = |index: usize, new: &Value, old: &mut Vec<Option<Value>>| {
        let mut value = old.get_mut(index)?.take()?;
        merge(&mut value, before.get(index)?, new);
        Some(value)
    };
    after
        .iter()
        .zip(origin)
        .map(|(new, index)| {
            index
                .and_then(|index| moved(index, new, &mut old))
                .unwrap_or_else(|| new.clone())
        })
        .collect()
}

/// For each element of `after`, the index of the element of `before` that it comes from.
fn origins(before: &[Value], after: &[Value]) -> Vec<Option<usize>> {
    let mut used = vec![false; before.len()];
    let mut origin = vec![None; after.len()];
    // Equal elements in the same place first, then equal ones from anywhere.
    for index in 0..before.len().min(after.len()) {
        if before[index] == after[index] {
            used[index] = true;
            origin[index] = Some(index);
        }
    }
    for (place, new) in after.iter().enumerate() {
        if origin[place].is_none() {
            let found = (0..before.len()).find(|&index| !used[index] && before[index] == *new);
            if let Some(index) = found {
                used[index] = true;
                origin[place] = Some(index);
            }
        }
    }
    // A changed element: the one in the same place, if nobody else came from there, when the length is the same;
    // else the first unused one after the origin of its neighbour.
    for place in 0..after.len() {
        if origin[place].is_some() {
            continue;
        }
        let start = if before.len() == after.len() {
            place
        } else {
            place
                .checked_sub(1)
                .and_then(|left| origin[left])
                .map_or(0, |left: usize| left + 1)
        };
        let mut free = (start..before.len()).take_while(|&index| !used[index]);
        if let Some(index) = free.find(|&index| resembles(&before[index], &after[place])) {
            used[index] = true;
            origin[place] = Some(index);
        }
    }
    origin
}

/// Whether one may be a changed form of the other: both are objects, and names that both carry are the same.
fn resembles(before: &Value, after: &Value) -> bool {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return false;
    };
    match (before.get("name"), after.get("name")) {
        (Some(old), Some(new)) => old == new,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(mut target: Value, before: Value, after: Value) -> Value {
        merge(&mut target, &before, &after);
        target
    }

    #[test]
    fn unknown_fields_stay_at_any_depth() {
        let raw = json!({"a": {"b": [{"x": 1, "new": true}, {"x": 2, "new": false}]}, "z": 0});
        let before = json!({"a": {"b": [{"x": 1}, {"x": 2}]}});
        let after = json!({"a": {"b": [{"x": 1}, {"x": 3}]}});
        let expected = json!({"a": {"b": [{"x": 1, "new": true}, {"x": 3, "new": false}]}, "z": 0});
        assert_eq!(merged(raw, before, after), expected);
    }

    #[test]
    fn elements_keep_theirs_when_others_come_and_go() {
        let raw = json!([{"x": 1, "u": 1}, {"x": 2, "u": 2}, {"x": 3, "u": 3}]);
        let before = json!([{"x": 1}, {"x": 2}, {"x": 3}]);
        let removed = merged(raw.clone(), before.clone(), json!([{"x": 2}, {"x": 3}]));
        assert_eq!(removed, json!([{"x": 2, "u": 2}, {"x": 3, "u": 3}]));
        let added = merged(
            raw.clone(),
            before.clone(),
            json!([{"x": 0}, {"x": 1}, {"x": 2}, {"x": 3}]),
        );
        assert_eq!(added[0], json!({"x": 0}));
        assert_eq!(added[3], json!({"x": 3, "u": 3}));
        let swapped = merged(raw, before, json!([{"x": 3}, {"x": 2}, {"x": 1}]));
        assert_eq!(swapped[0], json!({"x": 3, "u": 3}));
    }

    #[test]
    fn what_goes_goes_and_spellings_stay() {
        let raw = json!({"as": "64512", "gone": 1, "new": 2});
        let before = json!({"as": 64512, "gone": 1, "default": 0});
        let after = json!({"as": 64512, "default": 0});
        assert_eq!(merged(raw, before, after), json!({"as": "64512", "new": 2}));
    }
}
