/* json_get.c - what the shell tests know of JSON:
 *
 *     json_get PATH < text
 *
 * proves that stdin is one JSON value and prints what PATH names, one value a line: keys joined by
 * dots, `[]` for every element of a list, `[3]` for one, `#` for the number of elements.  `.` alone
 * prints nothing and only proves.  Exit status 1 when the text is no JSON, 2 when nothing is
 * there. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int n_printed;

static void print_value(const cJSON *node)
{
    n_printed++;
    if (cJSON_IsString(node)) {
        puts(node->valuestring);
    } else if (cJSON_IsNumber(node)) {
        printf("%.17g\n", node->valuedouble);
    } else {
        char *text = cJSON_PrintUnformatted(node);
        puts(text != NULL ? text : "");
        free(text);
    }
}

static void walk(const cJSON *node, const char *path)
{
    char key[128];

    path += *path == '.';
    if (node == NULL)
        return;
    if (*path == '\0') {
        print_value(node);
    } else if (strcmp(path, "#") == 0) {
        printf("%d\n", cJSON_GetArraySize(node));
        n_printed++;
    } else if (strncmp(path, "[]", 2) == 0) {
        const cJSON *child;
        cJSON_ArrayForEach(child, node) walk(child, path + 2);
    } else if (*path == '[') {
        walk(cJSON_GetArrayItem(node, atoi(path + 1)), strchr(path, ']') + 1);
    } else {
        size_t length = strcspn(path, ".[");
        snprintf(key, sizeof key, "%.*s", (int)length, path);
        walk(cJSON_GetObjectItemCaseSensitive(node, key), path + length);
    }
}

int main(int argc, char **argv)
{
    static char text[16 << 20];
    size_t n = fread(text, 1, sizeof text - 1, stdin);
    const char *end = NULL;

    text[n] = '\0';
    cJSON *root = argc == 2 ? cJSON_ParseWithOpts(text, &end, 1) : NULL;
    if (root == NULL) {
        fprintf(stderr, "json_get: %s\n", argc == 2 ? "no JSON" : "usage: json_get PATH < text");
        return 1;
    }
    if (strcmp(argv[1], ".") == 0)
        return 0;
    walk(root, argv[1]);
    cJSON_Delete(root);
    return n_printed > 0 ? 0 : 2;
}
