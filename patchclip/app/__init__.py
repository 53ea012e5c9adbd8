"""The page of `patchclip app`, for those who do not write code; all but `page` and `server` work without Gradio."""
