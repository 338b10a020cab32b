use super::grid::around;
use super::*;

const UNIT: i32 = 10_000_000;

fn point(latitude: i32, longitude: i32) -> Position {
    Position::new(latitude, longitude).unwrap()
}

/// A closed box in whole degrees: south, west, north, east.
fn square([south, west, north, east]: [i32; 4]) -> Vec<i32> {
    [
        south, west, south, east, north, east, north, west, south, west,
    ]
    .map(|degrees| degrees * UNIT)
    .to_vec()
}

fn places(regions: &[&[Vec<i32>]]) -> Places {
    let region = |rings: &&[Vec<i32>]| Region::Polygons(vec![Polygon::new(rings).unwrap()]);
    Places::new(&regions.iter().map(region).collect::<Vec<_>>())
}

#[test]
fn a_corner_of_four_is_in_the_north_eastern() {
    let squares = [[0, 0, 1, 1], [0, 1, 1, 2], [1, 0, 2, 1], [1, 1, 2, 2]];
    let rings = squares.map(|it| [square(it)]);
    let places = places(&[&rings[0], &rings[1], &rings[2], &rings[3]]);
    assert_eq!(places.locate(point(UNIT, UNIT)), Some(3));
    assert_eq!(places.locate(point(UNIT - 1, UNIT)), Some(1));
    assert_eq!(places.locate(point(UNIT, UNIT - 1)), Some(2));
    assert_eq!(places.locate(point(2 * UNIT, UNIT)), None);
    for region in 0..4 {
        assert_eq!(places.contains(region, point(UNIT, UNIT)), region == 3);
    }
}

#[test]
fn a_hole_is_outside_and_stays_in_its_shell() {
    let places = places(&[&[square([0, 0, 9, 9]), square([3, 3, 6, 6])]]);
    assert_eq!(places.locate(point(4 * UNIT, 4 * UNIT)), None);
    assert_eq!(places.locate(point(4 * UNIT, 7 * UNIT)), Some(0));
    for bad in [[3, 10, 6, 12], [10, 3, 12, 6]] {
        let fault = Polygon::new(&[square([0, 0, 9, 9]), square(bad)]).err();
        assert_eq!(fault, Some(Fault::Hole { ring: 1 }));
    }
}

#[test]
fn a_crossing_is_forgiven_where_rounding_can_have_made_it() {
    // Bow ties: the second one's waist is thinner than a unit.
    let tie = |height: i32| [0, 0, height, 3_000, 0, 3_000, height + 7, 0, 0, 0].to_vec();
    let fault = Polygon::new(&[tie(1_000)]).err();
    assert!(
        matches!(
            fault,
            Some(Fault::Crossing {
                ring: 0,
                other: 0,
                ..
            })
        ),
        "{fault:?}"
    );
    assert_eq!(
        Polygon::new(&[[0, 0, 1, 3_000, 0, 3_000, 2, 0, 0, 0]]).err(),
        None
    );
}

#[test]
fn the_whole_earth_leaves_no_point_out() {
    let places = places(&[&[square([-90, -180, 90, 180])]]);
    for latitude in [-POLE, -POLE + 1, 0, POLE - 1, POLE] {
        for longitude in [-HALF_TURN, -HALF_TURN + 1, 0, HALF_TURN - 1, HALF_TURN] {
            assert_eq!(places.locate(point(latitude, longitude)), Some(0));
        }
    }
}

#[test]
fn the_grid_begins_after_the_widest_gap() {
    let bounds = |west: i64, span: i64| Bounds {
        west: west * i64::from(UNIT),
        span: span * i64::from(UNIT),
        south: 0,
        north: 1,
    };
    let degrees = |boxes: &[Bounds]| {
        let (west, width) = around(boxes);
        (west / i64::from(UNIT), width / i64::from(UNIT))
    };
    assert_eq!(degrees(&[bounds(10, 5), bounds(20, 5)]), (10, 15));
    assert_eq!(degrees(&[bounds(-179, 5), bounds(170, 5)]), (170, 16));
    assert_eq!(
        degrees(&[bounds(0, 10), bounds(-170, 10), bounds(179, 60)]),
        (179, 191)
    );
    assert_eq!(degrees(&[bounds(-180, 180), bounds(0, 180)]).1, 360);
    assert_eq!(degrees(&[bounds(5, 360)]).1, 360);
}

#[test]
fn sines_are_exact_where_they_are_whole_and_near_elsewhere() {
    let one = 1_i64 << 40;
    let exact = [
        (0, 0),
        (POLE, one),
        (-POLE, -one),
        (HALF_TURN, 0),
        (300_000_000, one / 2),
    ];
    for (angle, sine) in exact {
        assert!((sphere::sine(i64::from(angle)) - sine).abs() <= i64::from(sine == one / 2));
    }
    for angle in (-HALF_TURN..=HALF_TURN).step_by(1_234_567) {
        let float = (f64::from(angle) / 1e7).to_radians().sin();
        let fixed = sphere::sine(i64::from(angle)) as f64 / one as f64;
        assert!((fixed - float).abs() < 4e-12, "{angle}: {fixed} {float}");
    }
}
