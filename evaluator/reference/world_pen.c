/* world_pen.c - expansion of rules, the split of skeletons, slots and choices. */
#include "evaluator/reference/world_pen.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLAT_ROOM 512
#define MAX_TRIES 4000

void pen_init(struct pen *pen, char *text, struct rng rng, enum world_split split)
{
    memset(pen, 0, sizeof *pen);
    pen->text = text;
    pen->text[0] = '\0';
    pen->rng = rng;
    pen->split = split;
}

size_t pen_pick(struct pen *pen, size_t n)
{
    return (size_t)rng_below(&pen->rng, n);
}

bool pen_chance(struct pen *pen, size_t n)
{
    return pen_pick(pen, n) == 0;
}

void pen_bind(struct pen *pen, char slot, enum word_class class, const char *word)
{
    struct pen_slot *s = &pen->slots[(unsigned char)slot];
    assert(strlen(word) < sizeof s->text);
    strcpy(s->text, word);
    s->class = class;
}

void pen_bind_nth(struct pen *pen, char slot, enum word_class class, size_t index)
{
    size_t n;
    const char *const *words = word_list(class, &n);
    assert(index < n);
    pen_bind(pen, slot, class, words[index]);
}

void pen_bind_number(struct pen *pen, char slot, int number)
{
    char text[WORD_ROOM];
    snprintf(text, sizeof text, "%d", number);
    pen_bind(pen, slot, WORD_NUMBER, text);
}

void pen_bind_copy(struct pen *pen, char slot, char from)
{
    pen->slots[(unsigned char)slot] = pen->slots[(unsigned char)from];
}

void pen_bind_people(struct pen *pen, const char *slots, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char name[WORD_ROOM];
        size_t same;
        do {
            word_draw_name(&pen->rng, pen->split, name);
            for (same = 0; same < i; same++)
                if (strcmp(pen->slots[(unsigned char)slots[same]].text, name) == 0)
                    break;
        } while (same < i);
        pen_bind(pen, slots[i], WORD_NAME, name);
    }
}

void pen_bind_village(struct pen *pen, char slot)
{
    char name[WORD_ROOM];
    word_draw_village(&pen->rng, pen->split, name);
    pen_bind(pen, slot, WORD_VILLAGE, name);
}

void pen_bind_thing(struct pen *pen, char colour, char object)
{
    size_t c, o;
    word_draw_thing(&pen->rng, pen->split, &c, &o);
    pen_bind_nth(pen, colour, WORD_COLOUR, c);
    pen_bind_nth(pen, object, WORD_OBJECT, o);
}

void pen_bind_distinct(struct pen *pen, enum word_class class, const char *slots, size_t n)
{
    size_t n_words, chosen[16];
    word_list(class, &n_words);
    assert(n <= n_words && n <= 16);
    for (size_t i = 0; i < n; i++) {
        size_t same;
        do {
            chosen[i] = pen_pick(pen, n_words);
            for (same = 0; same < i && chosen[same] != chosen[i]; same++)
                ;
        } while (same < i);
        pen_bind_nth(pen, slots[i], class, chosen[i]);
    }
}

/* The end of the alternative (or of the whole bracket, with `whole`) that starts at `p`. */
static const char *alternative_end(const char *p, bool whole)
{
    int depth = 0;
    for (;; p++) {
        assert(*p != '\0');
        if (*p == '[')
            depth++;
        else if (*p == ']' && depth-- == 0)
            return p;
        else if (*p == '|' && depth == 0 && !whole)
            return p;
    }
}

/* Append rule[0..end) with one alternative of each bracket. */
static void flatten(struct pen *pen, const char *p, const char *end, char *flat, size_t *n)
{
    while (p < end) {
        if (*p != '[') {
            assert(*n + 1 < FLAT_ROOM);
            flat[(*n)++] = *p++;
            continue;
        }
        const char *close = alternative_end(p + 1, true), *starts[32];
        size_t n_starts = 0;
        for (const char *q = p + 1;; q++) {
            assert(n_starts < 32);
            starts[n_starts++] = q;
            q = alternative_end(q, false);
            if (q == close)
                break;
        }
        const char *start = starts[pen_pick(pen, n_starts)];
        flatten(pen, start, alternative_end(start, false), flat, n);
        p = close + 1;
    }
}

/* he, him and his stand for both genders: a skeleton shows the same for "she" and "her". */
static const char *pronoun_mark(const char *code)
{
    return code[0] == 'h' && code[1] == 'e' && code[2] == '}' ? "<he>"
           : code[0] == 'H' && code[1] == 'e'                 ? "<He>"
           : code[0] == 'H'                                   ? "<His>"
                                                              : "<him>";
}

/* The mark of the slot at `p` ('{') and whether it is what is asked; returns its end. */
static const char *slot_mark(const struct pen *pen, const char *p, const char **mark, bool *asked)
{
    *asked = p[1] == '=';
    const char *letter = p + 1 + *asked;
    *mark = letter[1] == ':' ? pronoun_mark(letter + 2)
                             : word_class_mark(pen->slots[(unsigned char)*letter].class);
    return strchr(p, '}') + 1;
}

/* Words of a rule that are also values ("a plate", "a bowl") show as their class, so that no two
 * skeletons differ in a value alone. */
static const char *literal_mark(const char *p, char word[FLAT_ROOM], const char **mark)
{
    size_t n = 0;
    while (isalnum((unsigned char)p[n]))
        n++;
    n += n == 0; /* a sign stands for itself */
    memcpy(word, p, n);
    word[n] = '\0';
    int class = n > 1 ? word_class_of(word) : -1;
    *mark = class >= 0 ? word_class_mark((enum word_class) class) : word;
    return p + n;
}

static enum world_split flat_split(const struct pen *pen, const char *flat)
{
    char skeleton[2 * FLAT_ROOM], word[FLAT_ROOM];
    size_t n = 0;
    bool asked = false;
    for (const char *p = flat; *p != '\0' && !asked;) {
        const char *mark;
        p = *p == '{' ? slot_mark(pen, p, &mark, &asked) : literal_mark(p, word, &mark);
        size_t n_mark = strlen(mark);
        assert(n + n_mark < sizeof skeleton);
        memcpy(skeleton + n, mark, n_mark);
        n += n_mark;
    }
    skeleton[n] = '\0';
    return word_split("skeleton", skeleton);
}

static void put(struct pen *pen, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        assert(pen->n + 1 < WORLD_TEXT_ROOM);
        if (text[i] != WORD_SYLLABLE_MARK || pen->marked)
            pen->text[pen->n++] = text[i];
    }
    pen->text[pen->n] = '\0';
}

static const char *pronoun(const char *code, bool she)
{
    static const struct {
        const char *code, *he, *she;
    } table[] = {
        {"he}", "he", "she"},   {"He}", "He", "She"},   {"him}", "him", "her"},
        {"his}", "his", "her"}, {"His}", "His", "Her"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strncmp(code, table[i].code, strlen(table[i].code)) == 0)
            return she ? table[i].she : table[i].he;
    assert(!"unknown pronoun in a rule");
    return "";
}

/* Write the flat sentence with its slots filled; an item ends before what is asked. */
static void fill(struct pen *pen, const char *flat)
{
    if (pen->n > 0 && pen->text[pen->n - 1] != '\n')
        put(pen, " ", 1);
    size_t start = pen->n;
    for (const char *p = flat; *p != '\0';) {
        if (*p != '{') {
            size_t n = strcspn(p, "{");
            put(pen, p, n);
            if (p == flat)
                pen->text[start] = (char)toupper((unsigned char)pen->text[start]);
            p += n;
            continue;
        }
        bool asked = p[1] == '=';
        const struct pen_slot *slot = &pen->slots[(unsigned char)p[1 + asked]];
        if (asked && pen->item != NULL) {
            assert(pen->n > 0 && pen->text[pen->n - 1] == ' ');
            pen->text[--pen->n] = '\0';
            pen->cut = true;
            return;
        }
        const char *text =
            p[2 + asked] == ':' ? pronoun(p + 3 + asked, word_is_she(slot->text)) : slot->text;
        put(pen, text, strlen(text));
        p = strchr(p, '}') + 1;
    }
}

void pen_say(struct pen *pen, const char *rule)
{
    if (pen->cut)
        return;
    char flat[FLAT_ROOM];
    for (int i = 0; i < MAX_TRIES; i++) {
        size_t n = 0;
        flatten(pen, rule, rule + strlen(rule), flat, &n);
        flat[n] = '\0';
        if (flat_split(pen, flat) == pen->split) {
            fill(pen, flat);
            return;
        }
    }
    fprintf(stderr, "world: no expansion in the %s split: %s\n",
            pen->split == WORLD_TEST ? "test" : "training", rule);
    abort();
}

void pen_say_any(struct pen *pen, const char *const *rules, size_t n)
{
    pen_say(pen, rules[pen_pick(pen, n)]);
}

void pen_new_line(struct pen *pen)
{
    if (!pen->cut)
        put(pen, "\n", 1);
}

void pen_echo(struct pen *pen)
{
    size_t n = pen->n;
    put(pen, " ", 1);
    put(pen, pen->text, n);
}

static void unmarked_copy(char *to, const char *from)
{
    for (; *from != '\0'; from++)
        if (*from != WORD_SYLLABLE_MARK)
            *to++ = *from;
    *to = '\0';
}

void pen_offer(struct pen *pen, const char *slots, size_t n, char answer)
{
    struct world_item *item = pen->item;
    if (item == NULL || pen->cut)
        return;
    assert(n <= WORLD_MAX_CHOICES);
    char order[WORLD_MAX_CHOICES];
    memcpy(order, slots, n);
    rng_shuffle(&pen->rng, order, n, 1);
    item->n_choices = (int)n;
    for (size_t i = 0; i < n; i++) {
        item->choices[i][0] = ' ';
        const char *word = pen->slots[(unsigned char)order[i]].text;
        unmarked_copy(item->choices[i] + 1, word);
        if (strcmp(word, pen->slots[(unsigned char)answer].text) == 0)
            item->answer = (int)i;
    }
}
