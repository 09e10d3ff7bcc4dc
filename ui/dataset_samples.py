"""The tiny examples beside the upload form: one for each form of file that is understood."""

SAMPLES = (
    (
        "CSV with text and target",
        'text,target\n"he go to school","He goes to school."\n"i has a dog","I have a dog."',
    ),
    (
        "JSON Lines with prompt and completion (or response)",
        '{"prompt": "Shop asks Bank for money.",\n "completion": "@startuml\\nShop -> Bank : …"}',
    ),
    (
        "JSON Lines with messages, as OpenAI writes them",
        '{"messages": [\n  {"role": "user", "content": "Hi"},\n'
        '  {"role": "assistant", "content": "Hello!"}]}',
    ),
)
