//! The order in which services are made and started.

use cais_compose::Project;

/// Services behind those they depend on. Only these, when some are given: nothing is done or waited for about others.
pub(super) fn order<'p>(project: &'p Project, only: &[String]) -> Vec<&'p str> {
    let mut order = Vec::new();
    for (name, _) in project.services() {
        visit(project, name, &mut order);
    }
    order.retain(|name| only.is_empty() || only.iter().any(|it| it == name));
    order
}

/// The same services in groups: those of one group wait for none of it, only for those before.
pub(super) fn levels<'p>(project: &'p Project, order: &[&'p str]) -> Vec<Vec<&'p str>> {
    let mut levels: Vec<Vec<&str>> = Vec::new();
    for name in order {
        let dependencies: Vec<&str> = project.dependencies(name).map(|(it, _)| it).collect();
        let is_needed = |level: &Vec<&str>| level.iter().any(|it| dependencies.contains(it));
        let at = levels.iter().rposition(is_needed).map_or(0, |last| last + 1);
        match levels.get_mut(at) {
            Some(level) => level.push(name),
            None => levels.push(vec![name]),
        }
    }
    levels
}

fn visit<'p>(project: &'p Project, name: &'p str, order: &mut Vec<&'p str>) {
    if project.service(name).is_none() || order.contains(&name) {
        return;
    }
    for (dependency, _) in project.dependencies(name) {
        visit(project, dependency, order);
    }
    order.push(name);
}

#[cfg(test)]
mod tests {
    use super::super::tests::project;
    use super::*;

    #[test]
    fn what_others_depend_on_comes_first_or_is_left_out() {
        let project = project(
            "services: {app: {image: a, depends_on: [db]}, db: {image: a, depends_on: [zoo]}, zoo: {image: a}}",
        );
        let only =
            |names: &[&str]| -> Vec<String> { names.iter().map(|it| (*it).to_owned()).collect() };
        assert_eq!(order(&project, &[]), ["zoo", "db", "app"]);
        assert_eq!(order(&project, &only(&["app"])), ["app"]);
        assert_eq!(order(&project, &only(&["app", "db"])), ["db", "app"]);
    }

    #[test]
    fn services_wait_for_the_levels_before_their_own() {
        let project = project(
            "services: {app: {image: a, depends_on: [db, cache]}, db: {image: a, depends_on: [zoo]}, cache: {image: a}, zoo: {image: a}}",
        );
        let all = order(&project, &[]);
        assert_eq!(levels(&project, &all), [vec!["cache", "zoo"], vec!["db"], vec!["app"]]);
        assert_eq!(levels(&project, &["db", "cache"]), [["db", "cache"]]);
    }
}
