"""One name, one city, whatever the spelling."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citychain.city.names import NAME_LENGTH_MAX, CityNames, normalise
from citychain.errors import InvalidRequest

# Where normalisation is hard: marks that reorder, letters that fold to several, ligatures,
# kana with separate voicing, Hangul parts, Greek with iota below, Turkish, widths, spaces.
HARD = "ǆßẞﬃſÅÅ\u0345\u0301\u0323\u0307İıΐᾳῼΣςｶﾞガㄱ가\u1100\u1161①㍿ﷺ½ \u3000\xa0\t\n\u2003\xad"
texts = st.text(st.sampled_from(HARD) | st.characters(exclude_categories=["Cs"]), max_size=20)
letters = st.text("abcdefghijkl", min_size=1, max_size=8)


def normal(name: str) -> str | None:
    try:
        return normalise(name)
    except InvalidRequest:
        return None


@given(texts)
def test_normalising_twice_is_normalising_once(name: str) -> None:
    once = normal(name)
    assert once is None or len(once) > NAME_LENGTH_MAX or normalise(once) == once


def test_every_character_is_stable_once_normalised() -> None:
    for code_point in range(0x110000):
        once = normal(chr(code_point))
        assert once is None or normalise(once) == once, hex(code_point)


@given(texts, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_a_name_is_the_same_in_every_normal_form(name: str, form: str) -> None:
    other = unicodedata.normalize(form, name)  # type: ignore[arg-type]
    if len(other) <= NAME_LENGTH_MAX:
        assert normal(other) == normal(name)


@given(texts)
def test_a_name_is_the_same_in_every_case(name: str) -> None:
    assert normal(name.casefold()) == normal(name)


@given(st.lists(letters, min_size=1, max_size=4), st.sampled_from([" ", "\u3000", "\xa0 ", "\t\n"]))
def test_white_space_does_not_matter(words: list[str], space: str) -> None:
    assert normalise(space + space.join(words) + space) == " ".join(words)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("ＫＡＮＡＺＡＷＡ", "kanazawa"),
        ("ｶﾅｻﾞﾜ", "カナザワ"),
        ("Straße", "strasse"),
        ("ℌ𝐀Ⓐ", "haa"),  # Capitals only once they are decomposed.
        ("ΑΘΉΝΑ", "αθήνα"),
        ("Ha\u0300 No\u0323\u0302i", "hà nội"),
        ("  New   York ", "new york"),
    ],
)
def test_spellings_of_one_name(spelling: str, name: str) -> None:
    assert normalise(spelling) == name


@pytest.mark.parametrize("name", ["", " \u3000", "x" * (NAME_LENGTH_MAX + 1)])
def test_no_name_and_a_longer_one_than_any_city_has_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        normalise(name)
    assert refused.value.field == "city"


# --- look-up ------------------------------------------------------------------------


def test_slugs_titles_and_aliases_lead_to_the_city() -> None:
    names = CityNames({"kanazawa": ["金沢市", "Kanazawa"], "kyoto": []})
    for name in ("KANAZAWA", "金沢市", "kanazawa "):
        assert names.find(name) == "kanazawa"
    assert names.find("kyoto") == "kyoto"
    assert names.find("osaka") is None
    assert names.clashes == {}


def test_a_name_that_two_cities_claim_means_neither_and_says_so() -> None:
    names = CityNames({"springfield-il": ["Springfield"], "springfield-mo": ["SPRINGFIELD"]})
    assert names.clashes == {"springfield": ("springfield-il", "springfield-mo")}
    with pytest.raises(InvalidRequest, match="springfield-il, springfield-mo"):
        names.find("Springfield")
    assert names.find("springfield-mo") == "springfield-mo"
    assert names.suggestions("springfeld") == ("springfield-il", "springfield-mo")


def test_a_third_claimant_is_named_too() -> None:
    names = CityNames({"a": ["x"], "b": ["x"], "c": ["x"]})
    assert names.clashes == {"x": ("a", "b", "c")}


def test_a_slug_goes_before_another_citys_alias() -> None:
    names = CityNames({"kyoto": [], "miyako": ["Kyoto"]})
    assert names.find("kyoto") == "kyoto"
    assert names.clashes == {}


@given(st.dictionaries(letters, st.lists(letters, max_size=3), max_size=8), letters)
def test_look_up_is_as_a_plain_search_would_have_it(
    cities: dict[str, list[str]], name: str
) -> None:
    names = CityNames(cities)
    claimants = [slug for slug in cities if slug == name] or sorted(
        slug for slug, others in cities.items() if name in others
    )
    if len(claimants) > 1:
        assert names.clashes[name] == tuple(claimants)
        with pytest.raises(InvalidRequest):
            names.find(name)
    else:
        assert names.find(name) == (claimants[0] if claimants else None)


# --- suggestions and pages ------------------------------------------------------------


@pytest.mark.parametrize(
    ("typo", "slug"),
    [
        ("kanazwa", "kanazawa"),
        ("lanazawa", "kanazawa"),
        ("kanazawaa", "kanazawa"),
        ("knaazawa", "kanazawa"),
        ("金澤市", "kanazawa"),
        ("kioto", "kyoto"),
    ],
)
def test_a_misspelt_name_suggests_the_right_one_first(typo: str, slug: str) -> None:
    names = CityNames({"kanazawa": ["金沢市"], "kyoto": [], "osaka": [], "kawasaki": []})
    assert names.suggestions(typo)[0] == slug


def test_a_city_is_suggested_once_and_a_strange_name_suggests_nothing() -> None:
    names = CityNames({"kanazawa": ["kanazawa city", "kanazawa-shi"], "kyoto": []})
    assert names.suggestions("kanazawa cit") == ("kanazawa",)
    assert names.suggestions("zzz") == ()
    assert names.suggestions("otyok") == ()  # The same letters are not enough.


def test_suggestions_are_found_among_many_names() -> None:
    syllables = ["ka", "na", "za", "wa", "ki", "to", "mo", "ri", "shi", "ta"]
    cities: dict[str, list[str]] = {
        a + b + c + d: []
        for a in syllables
        for b in syllables
        for c in syllables
        for d in syllables
    }
    names = CityNames(cities)
    assert len(cities) == 10_000
    assert names.suggestions("kanazaw", 1) in [("kanazawa",), ("kanazata",)]
    assert len(names.suggestions("kanazzawa", 5)) == 5


@given(
    st.dictionaries(letters, st.lists(letters, max_size=2), max_size=12), letters, st.integers(1, 5)
)
def test_pages_hold_each_city_with_the_prefix_once_in_order(
    cities: dict[str, list[str]], prefix: str, limit: int
) -> None:
    names = CityNames(cities)
    for query in ("", prefix[:1], prefix.upper()):
        pages: list[str] = []
        while page := names.page(query, after=pages[-1] if pages else "", limit=limit):
            assert len(page) <= limit
            pages += page
        assert pages == sorted(
            slug
            for slug, others in cities.items()
            if any(name.startswith(query.lower()) for name in (slug, *others))
        )
